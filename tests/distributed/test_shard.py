"""FSDP2 by two processes trains what one process trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from helpers.parallel_runs import build
from helpers.processes import run_ranks
from helpers.tasks import trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor

from graphformer.cli.callbacks import ExactResume
from graphformer.data.loader import process_ranks
from graphformer.distributed import full_tensors
from graphformer.distributed.checkpoint import whole_checkpoint

BATCH = 6
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "text checkpointed": {},
    "text lora": {"lora": {"r": 2, "lora_alpha": 4}},
    "images": {},
    "captions": {},
    "text twice": {},
    "graphs accumulated": {},
}


class Norms(pl.Callback):
    """Records the norm of the gradient before it is clipped."""

    def __init__(self) -> None:
        self.norms: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, task: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in task.parameters() if p.grad is not None]
        whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
        self.norms.append(torch.stack([g.norm() for g in whole]).norm())


def sharded(*, save: bool = False) -> dict[str, Any]:
    world_size = process_ranks()[1]
    if world_size == 1:
        return {}
    strategy = ModelParallelStrategy(
        data_parallel_size=world_size, tensor_parallel_size=1, save_distributed_checkpoint=save
    )
    return {"strategy": strategy, "devices": world_size}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make networks and data in a dtype; the strategy does not offer float64 as a precision."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def fit(case: str, folder: Path, resume: int | None = None, **settings: Any) -> dict[str, Tensor]:
    """The weights, gradient norms and last loss, in float64 by default."""
    with default_dtype(torch.float32 if settings else torch.float64):
        return fit_default(case, folder, resume, **settings)


def fit_default(
    case: str, folder: Path, resume: int | None = None, **settings: Any
) -> dict[str, Tensor]:
    world_size = process_ranks()[1]
    name, _, variant = case.partition(" ")
    task, data = build(name, BATCH // world_size, 23, **CASES[case])
    if variant == "checkpointed":
        task.network.transformer.activation_checkpointing = True
    if variant == "twice":
        once = task._loss

        def twice(batch: Any) -> tuple[Tensor, Tensor]:
            (first, count), (second, _) = once(batch), once(batch)
            return (first + second) / 2, count

        task._loss = twice
    norms = Norms()
    torch.manual_seed(1)
    fitted = trainer(
        max_epochs=2,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        gradient_clip_val=0.5,
        accumulate_grad_batches=2 if variant == "accumulated" else 1,
        callbacks=[norms, ExactResume()],
        **settings,
        **sharded(),
    )
    path = folder / f"{case}-{world_size}"
    if resume is None:
        fitted.fit(task, datamodule=data)
        fitted.save_checkpoint(path)
    else:
        fitted.fit_loop.max_epochs = 3
        fitted.fit(task, datamodule=data, ckpt_path=folder / f"{case}-{resume}")
    loss = fitted.callback_metrics.get("train/loss", torch.zeros(()))
    result = {"norms": torch.stack(norms.norms), "loss": loss}
    if "lora" in case:
        task.save_adapter(folder / f"adapter-{world_size}")
    if name == "text" and not variant:  # tied weights still are, in one group
        assert len(list(task.named_parameters(remove_duplicate=False))) == len(
            dict(task.named_parameters()) | {"head": task.network.head}
        )
    parameters = dict(task.named_parameters())
    return result | {
        key: p.detach().full_tensor() if isinstance(p, DTensor) else p.detach()
        for key, p in parameters.items()
    }


def all_cases(folder: Path) -> dict[str, dict[str, Tensor]]:
    results = {case: fit(case, folder) for case in CASES if case != "text lora"}
    for case in ("text", "captions"):
        results[f"{case}, resumed"] = fit(case, folder, process_ranks()[1])
    results["text, mixed"] = fit("text checkpointed", folder, precision="bf16-mixed")
    return results


def lora_case(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {"text lora": fit("text lora", folder)}


@pytest.mark.slow
def test_two_sharded_processes_train_adapters_as_one(tmp_path: Path):
    pytest.importorskip("peft")
    (two, _), one = run_ranks(lora_case, 2, tmp_path), lora_case(tmp_path)
    assert_same_weights(two, one)


@pytest.mark.slow
def test_two_sharded_processes_train_as_one(tmp_path: Path):
    (two, _), one = run_ranks(all_cases, 2, tmp_path), all_cases(tmp_path)
    one["text, resumed elsewhere"] = fit("text", tmp_path, 2)
    two["text, resumed elsewhere"] = two["text, resumed"]
    assert_same_weights(two, one)


def assert_same_weights(
    two: dict[str, dict[str, Tensor]], one: dict[str, dict[str, Tensor]]
) -> None:
    for case, expected in one.items():
        assert two[case].keys() == expected.keys()
        if "mixed" in case:  # gradients that are 0 but for rounding make weights differ
            torch.testing.assert_close(two[case]["loss"], expected["loss"], rtol=1e-2, atol=0)
            continue
        for key, value in expected.items():
            torch.testing.assert_close(
                two[case][key], value, rtol=1e-6, atol=1e-6, msg=f"{case}: {key}"
            )


def fit_and_resume(folder: Path, checkpoint: Path | None) -> dict[str, Tensor]:
    """The weights after two epochs, saved in shards, or after the third from a checkpoint."""
    with default_dtype(torch.float64):
        task, data = build("text", BATCH // process_ranks()[1])
        torch.manual_seed(1)
        fitted = trainer(
            max_epochs=2 if checkpoint is None else 3,
            limit_val_batches=0,
            callbacks=[ExactResume()],
            **sharded(save=True),
        )
        fitted.fit(task, datamodule=data, ckpt_path=checkpoint)
    if checkpoint is None:
        fitted.save_checkpoint(folder / "last.ckpt")
    return full_tensors({name: p.detach() for name, p in task.named_parameters()})


@pytest.mark.slow
def test_a_sharded_checkpoint_is_resumed_by_one_process(tmp_path: Path):
    saved, _ = run_ranks(fit_and_resume, 2, tmp_path, None)
    path = whole_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(stored[name], weight) for name, weight in saved.items())
    two, _ = run_ranks(fit_and_resume, 2, tmp_path, tmp_path / "last.ckpt")
    one = fit_and_resume(tmp_path, path)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-6, atol=1e-6, msg=name)
        assert not torch.equal(weight, saved[name]), name


def refused() -> str:
    """The message about what cannot be sharded."""
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=2)
    task, data = build("text", BATCH)
    with pytest.raises(ValueError, match="got") as error:
        trainer(strategy=strategy, devices=2).fit(task, datamodule=data)
    return str(error.value)


@pytest.mark.slow
def test_what_cannot_be_sharded_is_refused():
    message, _ = run_ranks(refused, 2)
    assert message.startswith("tensor_parallel_size: got 2, expected 1")
