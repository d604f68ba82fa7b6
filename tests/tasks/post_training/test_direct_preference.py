"""Direct preference optimisation: step 0, gradients by hand, references, metrics, resuming."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.preferences import PAIRS, pair_batch, policy
from helpers.tasks import Batches, trainer

from graphformer.patterns import Causal
from graphformer.tasks import DirectPreference
from graphformer.tasks.post_training.losses.preference import orpo_loss, simpo_loss
from graphformer.tasks.post_training.reference import answer_log_probs

AT_START = {
    "sigmoid": math.log(2),
    "length_normalized": math.log(2),
    "hinge": 1.0,
    "ipo": 25.0,  # (1 / (2 * 0.1))^2
    "kto": 0.5,
}


@pytest.mark.parametrize("loss", AT_START)
def test_the_loss_before_training(loss: str) -> None:
    task = DirectPreference(policy(dropout=0.5), loss=loss, beta=0.1, lr=0.0)
    fit = trainer()
    fit.fit(task, Batches([pair_batch(PAIRS)]))
    metrics = fit.callback_metrics
    assert float(metrics["train/loss"]) == pytest.approx(AT_START[loss], abs=1e-6)
    assert float(metrics["train/rewards/margins"]) == 0.0
    assert float(metrics["val/rewards/chosen"]) == 0.0
    assert float(metrics["val/loss"]) == pytest.approx(AT_START[loss], abs=1e-6)


def test_losses_without_a_reference() -> None:
    network, batch = policy(), pair_batch(PAIRS)
    tokens = answer_log_probs(network, batch, Causal()).split([3, 1, 2, 4])
    means = torch.stack([part.mean() for part in tokens]).view(2, 2)
    expected = {
        "simpo": simpo_loss(*means.T, beta=2.0, target_margin=0.5).mean(),
        "orpo": orpo_loss(*means.T, beta=2.0).mean(),
    }
    for loss, value in expected.items():
        task = DirectPreference(policy(), loss=loss, beta=2.0)
        task.configure_model()
        assert task.reference is None
        (result,) = trainer().validate(task, Batches([batch]), verbose=False)
        assert result["val/loss"] == pytest.approx(value.item(), rel=1e-5)
        assert result["val/logps/chosen"] == pytest.approx(means[:, 0].mean().item(), rel=1e-5)


def test_ipo_is_of_means_over_the_tokens_of_an_answer() -> None:
    batch, task = pair_batch(PAIRS), DirectPreference(policy(), loss="ipo", beta=0.2)
    task.configure_model()
    before = answer_log_probs(task.network, batch, Causal()).split([3, 1, 2, 4])
    with torch.no_grad():
        task.network.head.linear.weight.mul_(1.5)
    after = answer_log_probs(task.network, batch, Causal()).split([3, 1, 2, 4])
    ratios = [(new - old).mean().item() for new, old in zip(after, before, strict=True)]
    losses = [(ratios[i] - ratios[i + 1] - 2.5) ** 2 for i in (0, 2)]
    (result,) = trainer().validate(task, Batches([batch]), verbose=False)
    assert result["val/loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)


@pytest.mark.parametrize("loss", [*AT_START, "simpo", "orpo"])
def test_the_chosen_answers_become_likelier_than_the_rejected(loss: str) -> None:
    task, data = DirectPreference(policy(), loss=loss, lr=1e-2), Batches([pair_batch(PAIRS)])
    trainer(max_epochs=12).fit(task, data)
    (result,) = trainer().validate(task, data, verbose=False)
    assert result["val/rewards/accuracies"] == 1.0
    margin = result["val/rewards/chosen"] - result["val/rewards/rejected"]
    assert result["val/rewards/margins"] == pytest.approx(margin, rel=1e-4)


def test_a_cached_reference_gives_the_same_run(tmp_path: Path) -> None:
    found = []
    for cache in (None, str(tmp_path)):
        task = DirectPreference(policy(), lr=1e-2, reference_cache=cache)
        trainer(max_epochs=3).fit(task, Batches([pair_batch(PAIRS[:2]), pair_batch(PAIRS[2:])]))
        found.append([p.detach().clone() for p in task.network.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert len(list(tmp_path.glob("*.pt"))) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_a_resumed_run_has_the_reference_of_its_start(tmp_path: Path, cached: bool) -> None:
    cache = str(tmp_path / "cache") if cached else None
    data = Batches([pair_batch(PAIRS)])

    def task() -> DirectPreference:
        return DirectPreference(policy(), lr=1e-2, reference_cache=cache)

    whole = task()
    trainer(max_epochs=4).fit(whole, data)
    first = trainer(max_epochs=2)
    first.fit(task(), data)
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = task()
    trainer(max_epochs=4).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_cached_reference_is_found_when_a_checkpoint_is_validated(tmp_path: Path) -> None:
    data, cache = Batches([pair_batch(PAIRS)]), str(tmp_path / "cache")
    fit = trainer(max_epochs=2)
    fit.fit(DirectPreference(policy(), lr=1e-2, reference_cache=cache), data)
    fit.save_checkpoint(tmp_path / "a.ckpt")
    expected = fit.validate(fit.lightning_module, data, verbose=False)
    new = DirectPreference(policy(), reference_cache=cache)
    options = {"ckpt_path": tmp_path / "a.ckpt", "weights_only": True, "verbose": False}
    assert trainer().validate(new, data, **options) == expected
    untrained = DirectPreference(policy(), reference_cache=cache)
    with pytest.raises(ValueError, match="a run that has not been trained, expected a checkpoint"):
        trainer().validate(untrained, data, verbose=False)


def test_errors() -> None:
    with pytest.raises(ValueError, match="loss: got 'dpo', expected one of sigmoid"):
        DirectPreference(policy(), loss="dpo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta: got 0"):
        DirectPreference(policy(), beta=0)
    with pytest.raises(ValueError, match="reference_cache: got a folder for loss 'kto'"):
        DirectPreference(policy(), loss="kto", reference_cache="a")
    with pytest.raises(ValueError, match="for loss 'orpo', expected None; the loss has no refer"):
        DirectPreference(policy(), loss="orpo", reference_cache="a")
