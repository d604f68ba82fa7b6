"""A run that is saved on some number of processes resumes on another, or on the same one."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from helpers.parallel_runs import build
from helpers.processes import run_ranks
from helpers.tasks import trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from graphformer.cli.callbacks import ExactResume
from graphformer.data.loader import process_ranks

GLOBAL_BATCH, SAVE_AT = 4, 4  # of 6 steps an epoch


class SaveAt(pl.Callback):
    """Saves a checkpoint at a step, with the states of all callbacks, and goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == SAVE_AT and not trainer.fit_loop._should_accumulate():
            trainer.save_checkpoint(self.path, weights_only=False)


def fit(name: str, folder: Path, saved_on: int | None = None, *, dropout: float = 0.0) -> Tensor:
    """The weights after two epochs; saved in the first one, or resumed where another run saved."""
    world_size = process_ranks()[1]
    task, data = build(name, GLOBAL_BATCH // world_size)
    for module in task.modules():
        if hasattr(module, "p"):
            module.p = dropout
    torch.manual_seed(1)
    callbacks: list[pl.Callback] = [ExactResume()]
    if saved_on is None:
        callbacks.append(SaveAt(folder / f"{name}-{world_size}-{dropout}"))
    fitted = trainer(
        max_epochs=2,
        precision="64-true",
        limit_val_batches=0,
        accumulate_grad_batches=4 // world_size if name == "budget" else 1,
        callbacks=callbacks,
        **({"strategy": "ddp", "devices": world_size} if world_size > 1 else {}),
    )
    path = None if saved_on is None else folder / f"{name}-{saved_on}-{dropout}"
    fitted.fit(task, datamodule=data, ckpt_path=path)
    return parameters_to_vector(task.parameters()).detach()


def train_and_resume(folder: Path, saved_on: list[int]) -> dict[str, Tensor]:
    weights = {}
    for name in ("text", "budget"):
        weights |= {f"{name} {other}": fit(name, folder, other) for other in saved_on}
        weights[name] = fit(name, folder)
        if process_ranks()[1] == 2:  # ranks draw different numbers
            weights[f"{name} with dropout"] = fit(name, folder, dropout=0.2)
            weights[f"{name} with dropout, resumed"] = fit(name, folder, 2, dropout=0.2)
            weights[f"{name} 2"] = fit(name, folder, 2)
    return weights


@pytest.mark.slow
def test_a_run_resumes_on_other_numbers_of_processes(tmp_path: Path):
    two, _ = run_ranks(train_and_resume, 2, tmp_path, [])
    one = train_and_resume(tmp_path, [2])
    four, *_ = run_ranks(train_and_resume, 4, tmp_path, [1, 2])
    back = {name: fit(name, tmp_path, 4) for name in ("text", "budget")}
    for name in ("text", "budget"):
        assert torch.equal(two[f"{name} with dropout"], two[f"{name} with dropout, resumed"])
        assert not torch.equal(two[f"{name} with dropout"], two[name])
        assert torch.equal(two[name], two[f"{name} 2"])
        others = [two[name], one[f"{name} 2"], four[f"{name} 1"], four[f"{name} 2"], back[name]]
        for weights in others:
            torch.testing.assert_close(weights, one[name], rtol=0, atol=1e-6)
