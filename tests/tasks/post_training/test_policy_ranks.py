"""Policy optimisation on two processes: the weights of one process, and exact resume."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.preferences import policy
from helpers.processes import run_ranks
from helpers.rollouts import Prompts, share_of_c
from helpers.tasks import trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from graphformer.cli.callbacks import ExactResume
from graphformer.data.loader import process_ranks
from graphformer.tasks import PolicyOptimization

STEPS, SAVE_AT = 7, 3
# Five prompts, four in a batch: the second batch has one prompt, and none for the second rank.
GLOBAL_BATCH, PROMPTS = 4, 5


class SaveAt(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == SAVE_AT:
            trainer.save_checkpoint(self.path)


def fit(method: str, path: Path, *, resume: bool, minibatches: int = 1) -> Tensor:
    """The weights after STEPS steps, from the checkpoint that another call wrote or from none."""
    size = process_ranks()[1]
    made = PolicyOptimization(
        policy(dropout=0.3), method=method, reward=share_of_c, max_new_tokens=5, group_size=3,
        epochs=2, minibatches=minibatches, kl_target=0.01, temperature=0.8, lr=1e-2, seed=11,
    )  # fmt: skip
    fitted = trainer(
        max_epochs=-1, max_steps=STEPS, limit_val_batches=0, precision="64-true",
        callbacks=[ExactResume()] if resume else [ExactResume(), SaveAt(path)],
        **({"strategy": "ddp", "devices": size} if size > 1 else {}),
    )  # fmt: skip
    checkpoint = {"ckpt_path": path, "weights_only": False} if resume else {}
    fitted.fit(made, Prompts(GLOBAL_BATCH // size, PROMPTS), **checkpoint)
    return parameters_to_vector(made.parameters()).detach()


def train_and_resume(methods: list[str], folder: Path) -> dict[str, Tensor]:
    found = {name: fit(name, folder / name, resume=False) for name in methods}
    found["parts"] = fit("grpo", folder / "parts", resume=False, minibatches=2)
    found["resumed"] = fit("grpo", folder / "parts", resume=True, minibatches=2)
    return found


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    methods = ["reinforce", "grpo", "ppo"]
    ranks = run_ranks(train_and_resume, 2, methods, tmp_path)
    torch.testing.assert_close(ranks[0], ranks[1])
    for name in methods:
        torch.testing.assert_close(ranks[0][name], fit(name, tmp_path / "one", resume=False))
    for one in ranks:
        assert torch.equal(one["resumed"], one["parts"])


def test_a_run_of_two_processes_goes_on_in_one(tmp_path: Path) -> None:
    fit("reinforce", tmp_path / "one", resume=False)
    stored = torch.load(tmp_path / "one", weights_only=False)
    stored["policy_optimization"] *= 2
    torch.save(stored, tmp_path / "two")
    assert fit("reinforce", tmp_path / "two", resume=True).isfinite().all()
