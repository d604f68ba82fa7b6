"""Training and evaluation by two processes equal those by one with the same global batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.parallel_runs import build
from helpers.processes import run_ranks
from helpers.tasks import trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector

NAMES = ("text", "budget", "images", "graphs", "links")
CORRUPTED = ("masked", "electra", "denoising", "mae")
SAMPLED = ("neighbors", "disjoint neighbors")
BATCH_NORM = ("batch norm", "gcn batch norm")
CONTRASTIVE = ("captions", "sentences")
BATCH = 3


def train(
    name: str, world_size: int, accumulate: int = 1, *, count: int = 23, **options: Any
) -> dict[str, Tensor]:
    """The weights and the losses after two epochs of 23 samples, of which the last is odd."""
    task, data = build(name, BATCH * 2 // world_size if name != "budget" else BATCH, count)
    losses: list[Tensor] = []
    log = task.log
    task.log = lambda key, value, **kw: (  # type: ignore[method-assign]
        losses.append(value) if key == "train/loss" else None, log(key, value, **kw)
    )[0]  # fmt: skip
    if name == "budget":  # two ranks take two of the batches of one process at once
        accumulate *= 2 // world_size
    torch.manual_seed(1)
    fitted = trainer(
        max_epochs=2,
        precision="64-true",
        accumulate_grad_batches=accumulate,
        limit_val_batches=0,
        **({"strategy": "ddp", "devices": world_size} if world_size > 1 else {}),
        **options,
    )
    fitted.fit(task, datamodule=data)
    return {
        "weights": parameters_to_vector(task.parameters()).detach(),
        "steps": torch.tensor(fitted.global_step),
        "losses": torch.stack(losses),
    }


def evaluate(name: str, world_size: int, count: int) -> dict[str, float]:
    """The test metrics of a network that is not trained."""
    # Contrastive losses and sampled neighbours depend on the batches, the others do not.
    by_batch = (*CONTRASTIVE, *SAMPLED)
    task, data = build(name, BATCH * 2 // world_size if name in by_batch else BATCH, count)
    options = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    fitted = trainer(precision="64-true", **options)
    (metrics,) = fitted.test(task, datamodule=data, verbose=False)
    return metrics


def all_runs(world_size: int) -> dict[str, dict[str, Tensor]]:
    clipped = {"gradient_clip_val": 0.1}
    return {
        **{name: train(name, world_size) for name in NAMES},
        **{
            f"{name}, accumulated": train(name, world_size, 3)
            for name in ("text", "budget", "links")
        },
        **{name: train(name, world_size) for name in (*CONTRASTIVE, *CORRUPTED, *SAMPLED)},
        **{name: train(name, world_size) for name in BATCH_NORM},
        "gcn batch norm, accumulated": train("gcn batch norm", world_size, 3),
        "batch norm, padded": train("batch norm", world_size, count=19),  # no graph for one rank
        "masked, accumulated": train("masked", world_size, 3),
        "experts": train("experts", world_size),
        "text, clipped": train("text", world_size, **clipped),
    }


def all_metrics(world_size: int) -> dict[str, dict[str, float]]:
    """Of shards that are even, uneven and, with one sample, empty."""
    counts = {"text": (23, 2, 1), "budget": (23,), "images": (23, 1), "graphs": (9,), "links": (1,)}
    counts |= dict.fromkeys(CONTRASTIVE, (13, 1))
    counts |= dict.fromkeys((*CORRUPTED, *SAMPLED), (13,))
    return {f"{name} {n}": evaluate(name, world_size, n) for name in counts for n in counts[name]}


def test_two_processes_train_the_weights_of_one():
    ranks, one = run_ranks(all_runs, 2, 2), all_runs(1)
    for name, expected in one.items():
        first, second = (results[name] for results in ranks)
        assert torch.equal(first["weights"], second["weights"]), name
        assert first["steps"] == expected["steps"], name
        torch.testing.assert_close(
            first["weights"], expected["weights"], rtol=0, atol=1e-6, msg=name
        )
        if first["losses"].shape == expected["losses"].shape:
            torch.testing.assert_close(first["losses"], expected["losses"], msg=name)


def test_two_processes_measure_what_one_does():
    ranks, one = run_ranks(all_metrics, 2, 2), all_metrics(1)
    for name, expected in one.items():
        for results in ranks:
            assert results[name] == pytest.approx(expected, rel=1e-9, nan_ok=True), name
