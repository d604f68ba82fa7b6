"""Policy optimisation: ratios of 1, gradients, learning, exact resume, failing rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from helpers.preferences import VOCAB, policy
from helpers.rollouts import Prompts, share_of_c
from helpers.tasks import trainer
from lightning.pytorch.callbacks import Callback

from graphformer import models
from graphformer.cli.callbacks import ExactResume
from graphformer.patterns import Causal
from graphformer.tasks import PolicyOptimization
from graphformer.tasks.post_training.policy import methods

METHODS = ["reinforce", "rloo", "grpo", "dr_grpo", "ppo"]


def task(method: str = "rloo", **options: Any) -> PolicyOptimization:
    options = {"reward": share_of_c, "max_new_tokens": 4, "lr": 2e-2, **options}
    return PolicyOptimization(policy(dropout=0.3), method=method, **options)


def fit(made: PolicyOptimization, steps: int, callbacks: Any = None, **options: Any):
    callbacks = callbacks or [ExactResume()]
    found = trainer(max_epochs=-1, max_steps=steps, limit_val_batches=0, callbacks=callbacks)
    found.fit(made, Prompts(), **options)
    return found


class SaveAfter(Callback):
    """Writes a checkpoint after a number of steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_update_has_ratios_of_exactly_one(method: str, monkeypatch) -> None:
    ratios = []
    original = methods.policy_loss

    def record(log_p, old_log_p, advantages, *, clip):
        ratios.append((log_p - old_log_p).exp().detach())
        return original(log_p, old_log_p, advantages, clip=clip)

    monkeypatch.setattr(methods, "policy_loss", record)
    fit(task(method, temperature=0.7, epochs=2), 2)
    assert torch.equal(ratios[0], torch.ones_like(ratios[0]))
    assert not torch.equal(ratios[1], torch.ones_like(ratios[1]))


def test_log_probabilities_are_those_of_the_temperature_of_sampling() -> None:
    made = task(temperature=2.5, epochs=2, lr=0.0)
    fit(made, 1)
    (rollouts,) = made.state.rollouts
    batch = rollouts.batch
    logits = made.network.eval()(batch, Causal()(batch))[batch.y != -100]
    expected = (logits / 2.5).log_softmax(-1)[range(len(logits)), batch.y[batch.y != -100]]
    torch.testing.assert_close(rollouts.log_p, expected.detach())
    torch.testing.assert_close(rollouts.reference, expected.detach())


@pytest.mark.parametrize("method", METHODS)
def test_the_reward_grows(method: str) -> None:
    made = task(method, kl_weight=0.01, epochs=2, group_size=8)
    found = fit(made, 40)
    assert found.callback_metrics["train/reward"] > 0.6
    (result,) = trainer().validate(made, Prompts(), verbose=False)
    assert result["val/reward"] > 0.8
    assert result["val/loss"] == -result["val/reward"]
    names = ["reward", "reward_std", "kl", "entropy", "approx_kl", "completions/mean_length"]
    assert {f"train/{n}" for n in [*names, "frac_reward_zero_std"]} <= found.callback_metrics.keys()
    assert ("train/clip_fraction" in found.callback_metrics) == (
        method in ("grpo", "dr_grpo", "ppo")
    )


def test_equal_rewards_have_no_gradient() -> None:
    made = task("grpo", reward=lambda completions: [0.1] * len(completions), kl_weight=0.0)
    before = [p.detach().clone() for p in made.network.parameters()]
    made.weight_decay = 0.0
    found = fit(made, 1)
    for parameter, old in zip(made.network.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    assert found.callback_metrics["train/frac_reward_zero_std"] == 1


@pytest.mark.parametrize("place", ["sample", "token", "loss"])
def test_a_large_kl_weight_keeps_the_policy(place: str) -> None:
    kls = []
    for weight in (0.0, 10.0):
        options = {"kl_place": place, "kl_weight": weight, "kl_estimator": "k2", "group_size": 8}
        kls.append(fit(task(**options), 25).callback_metrics["train/kl"])
    assert kls[1] < kls[0] / 2


@pytest.mark.parametrize(("method", "saved"), [("ppo", 3), ("reinforce", 5), ("grpo", 6)])
def test_resumed_between_sampling_and_update_the_run_is_the_same(
    method: str, saved: int, tmp_path: Path
) -> None:
    options = {"epochs": 2, "minibatches": 3, "kl_target": 0.1, "temperature": 1.4}
    whole = task(method, **options)
    save = SaveAfter(saved, tmp_path / "a.ckpt")  # of the 6 updates on the first answers
    fit(whole, 9, callbacks=[ExactResume(), save])
    resumed = task(method, **options)
    fit(resumed, 9, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    for name in ("kl_weight", "baseline", "count", "step"):
        assert getattr(whole.state, name) == getattr(resumed.state, name)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_too_large_a_step_ends_the_updates_on_the_answers() -> None:
    made = task("ppo", epochs=5, kl_stop=0.0)
    fit(made, 4)
    assert made.state.count == 2  # each sampling has one update of ratio 1 and one more


def test_penalties_and_weights_of_several_rewards() -> None:
    def ones(completions):
        return [1.0] * len(completions)

    made = task(reward=[share_of_c, ones], reward_weights=[0.0, 3.0], epochs=2,
                missing_end_penalty=0.5)  # fmt: skip
    fit(made, 1)
    (rollouts,) = made.state.rollouts
    ended = torch.tensor([int(row[-1]) == 12 for row in rollouts.batch.y.split(
        list(rollouts.batch.lengths))])  # fmt: skip
    assert rollouts.rewards.tolist() == [3.0 if end else 2.5 for end in ended]


def test_a_critic_of_its_own() -> None:
    own = models.language_model(VOCAB, dim=8, depth=1, num_heads=2, max_length=23)
    own.head = models.model.nn.Linear(8, 1)
    own.head.forward = lambda x, batch=None, linear=own.head: torch.nn.functional.linear(
        x, linear.weight, linear.bias
    )
    made = task("ppo", value_network=own)
    before = own.head.weight.detach().clone()
    fit(made, 2)
    assert not torch.equal(before, own.head.weight)


def test_adapters() -> None:
    pytest.importorskip("peft")
    made = task(lora={"r": 2, "lora_alpha": 4})
    fit(made, 2)
    trained = sum(p.numel() for p in made.network.parameters() if p.requires_grad)
    assert sum(b.numel() for b in made.reference.buffers()) == trained


def test_errors() -> None:
    with pytest.raises(ValueError, match="method: got 'trpo', expected one of reinforce"):
        task("trpo")
    with pytest.raises(ValueError, match="group_size: got 1, expected 2 or more for 'grpo'"):
        task("grpo", group_size=1)
    with pytest.raises(ValueError, match="temperature: got 0, expected a number above 0"):
        task(temperature=0)
    with pytest.raises(ValueError, match="value_network: got a network for 'rloo'"):
        task(value_network=policy())
    with pytest.raises(ValueError, match="reward_weights: got 1 for 2 rewards"):
        task(reward=[share_of_c, share_of_c], reward_weights=[1.0])
    with pytest.raises(ValueError, match="reward: got nan of <lambda>"):
        fit(task(reward=lambda completions: [float("nan")] * len(completions)), 1)
