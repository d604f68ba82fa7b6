"""The section on consistency: repeated calls, batches, threads, changed inputs, other seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.data.loader import BatchDataset
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.run import Run, is_classification, not_applicable
from graphformer.trust.sections.invariance import add_invariance
from graphformer.trust.sections.several_runs import add_several_runs

NAME, TITLE = "consistency", "Consistency"
BATCHES = 5
"""Batches that are compared; each is computed several times."""


def consistency_section(run: Run) -> Section:
    """Return whether repeated calls, other batches, threads and wording give the same outputs."""
    if not isinstance(_first_output(run), Tensor):
        return not_applicable(NAME, TITLE, run, "compares outputs that are one tensor")
    loader = run.data.batches("test")
    indices = [index for index, _ in zip(loader.sampler, range(BATCHES), strict=False)]
    checks = {"computed again": [_pair(run, loader.dataset, index) for index in indices]}
    for threads in sorted({1, os.cpu_count() or 1}):
        name = f"on {threads} thread{'s' if threads > 1 else ''}"
        checks[name] = [_pair(run, loader.dataset, index, threads) for index in indices]
    several = [index for index in indices if len(index) > 1]
    by_sample = [index for index in several if _rows(run, loader.dataset, index) == len(index)]
    if by_sample:
        checks["batch in reverse order"] = [
            (_output(run, loader.dataset[index]), _reversed(run, loader.dataset, index))
            for index in by_sample
        ]
        checks["each sample alone"] = [
            (_output(run, loader.dataset[index]), _alone(run, loader.dataset, index))
            for index in by_sample
        ]
    section = Section(NAME, TITLE)
    columns = ["compared with the batch", "rows", "largest difference", "equal bits", "answers"]
    rows = [_row(name, pairs, is_classification(run.task)) for name, pairs in checks.items()]
    section.tables.append(Table("Outputs for the first test batches", columns, rows))
    section.metrics = {f"largest difference, {row[0]}": float(row[2]) for row in rows}
    section.notes.append(
        "Largest difference of two outputs of the same sample; answers: rows whose largest output "
        "changes place. Repeated calls and other numbers of threads must give equal bits; in "
        "another order or alone, matrix products may be summed in another order, which changes "
        "the last bits only."
    )
    if not by_sample:
        section.notes.append(
            "The order of a batch is not compared, because the outputs are not one row a sample "
            "or the batches have one sample."
        )
    add_invariance(section, run)
    add_several_runs(section, run)
    return section


@torch.no_grad()
def _output(run: Run, batch: BatchLike) -> Tensor:
    output: Tensor = run.task.predict_step(batch, 0)
    return output


def _first_output(run: Run) -> object:
    return _output(run, next(run.batches("test")))


def _rows(run: Run, dataset: BatchDataset, index: Tensor) -> int:
    return len(_output(run, dataset[index]))


def _pair(
    run: Run, dataset: BatchDataset, index: Tensor, threads: int | None = None
) -> tuple[Tensor, Tensor]:
    first = _output(run, dataset[index])
    with num_threads(threads):
        return first, _output(run, dataset[index])


def _reversed(run: Run, dataset: BatchDataset, index: Tensor) -> Tensor:
    return _output(run, dataset[index.flip(0)]).flip(0)


def _alone(run: Run, dataset: BatchDataset, index: Tensor) -> Tensor:
    return torch.cat([_output(run, dataset[one]) for one in index.split(1)])


@contextmanager
def num_threads(threads: int | None) -> Iterator[None]:
    """Set torch's number of threads within a `with` block; None keeps it."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def _row(name: str, pairs: list[tuple[Tensor, Tensor]], has_classes: bool) -> list[Cell]:
    first, second = (torch.cat(outputs) for outputs in zip(*pairs, strict=True))
    answers = "numbers"
    if has_classes:
        answers = f"{int((first.argmax(1) != second.argmax(1)).sum())} changed"
    equal = "yes" if torch.equal(first, second) else "no"
    difference = float((first - second).abs().max())
    return [name, len(first), difference, equal, answers]
