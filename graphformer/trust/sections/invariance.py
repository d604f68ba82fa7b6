"""The part of the section on consistency about changes that keep the meaning of an input."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from graphformer.batch_type import BatchLike
from graphformer.data import LabelledText, MissingDataError
from graphformer.data.vision.augment import flip
from graphformer.data.vision.base import PatchImages
from graphformer.patterns import lengths
from graphformer.tasks import Classification, Task
from graphformer.trust.outputs import drawn_samples, has_one_size, image_logits
from graphformer.trust.proportions import proportion
from graphformer.trust.report import Cell, Section, Table
from graphformer.trust.robustness import read_synonyms, replace_synonyms
from graphformer.trust.robustness.invariance import IMAGE_CHANGES, MIRROR, TEXT_CHANGES, renumbered
from graphformer.trust.run import Run, is_classification

SAMPLES = 300
"""Texts or images that are changed at most, drawn from the test split."""
SYNONYM_RATE = 0.1
_CHUNK = 50

Pair = tuple[str, Tensor, Tensor]
"""Name of a change, outputs of the samples that it changes, and of the changed ones, [B, K]."""


def add_invariance(section: Section, run: Run) -> None:
    """Add how often answers stay the same under changes that keep the meaning of an input."""
    if run.paraphrases and not isinstance(run.data, LabelledText):
        section.notes.append("Paraphrases were left out: they are of texts with a class.")
    rows: list[list[Cell]] = []
    for name, first, second in _pairs(section, run):
        difference = float((first - second).abs().max())
        if not is_classification(run.task):
            rows.append([name, len(first), "", "", "", difference])
            continue
        same = first.argmax(1) == second.argmax(1)
        share = proportion(int(same.sum()), len(same))
        rows.append([name, len(first), *share, difference])
        section.metrics[f"same answers, {name}"] = share.value
    if not rows:
        section.notes.append(
            "Changes that keep the meaning of an input were left out: they are defined for texts "
            "with a class, for images of one size with a class, and for graphs with an output that "
            "is one tensor."
        )
        return
    section.notes.append(
        "Changes that keep the meaning of an input should keep the answer; rows: those that the "
        "change alters."
    )
    columns = ["change", "rows", "same answers", "95 % from", "to", "largest difference"]
    section.tables.append(Table("Answers under changes that keep the meaning", columns, rows))


@torch.no_grad()
def _pairs(section: Section, run: Run) -> Iterator[Pair]:
    if isinstance(run.data, LabelledText) and is_classification(run.task):
        yield from _text_pairs(section, run, run.task, run.data)
    elif isinstance(run.data, PatchImages) and is_classification(run.task):
        yield from _image_pairs(run, run.task, run.data)
    else:
        yield from _graph_pairs(run)


def _text_pairs(
    section: Section, run: Run, task: Classification, data: LabelledText
) -> Iterator[Pair]:
    changes = dict(TEXT_CHANGES)
    try:
        generator, synonyms = random.Random(run.seed), read_synonyms()
        changes[f"synonyms of {SYNONYM_RATE:.0%} of the words"] = partial(
            replace_synonyms, rate=SYNONYM_RATE, generator=generator, synonyms=synonyms
        )
    except MissingDataError as missing:
        section.notes.append(f"Synonyms of WordNet were left out: {missing}.")
    outputs = partial(_text_outputs, task, data)
    test = data.splits["test"]
    texts = [test[i][0] for i in drawn_samples(len(test), SAMPLES, seed=run.seed)]
    for name, change in changes.items():
        pairs = [(text, other) for text in texts if (other := change(text)) != text]
        if pairs:
            yield _pair(name, outputs, pairs)
    if run.paraphrases:
        yield _pair("paraphrases of the file", outputs, run.paraphrases)


def _pair(
    name: str,
    outputs: Callable[[Sequence[str]], Tensor],
    texts: Sequence[tuple[str, str]],
) -> Pair:
    """Return the outputs of the first texts of pairs, and of the second ones."""
    return name, outputs([first for first, _ in texts]), outputs([second for _, second in texts])


def _text_outputs(task: Classification, data: LabelledText, texts: Sequence[str]) -> Tensor:
    chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
    return torch.cat([task(data.pack(chunk)) for chunk in chunks])


def _image_pairs(run: Run, task: Classification, data: PatchImages) -> Iterator[Pair]:
    if not has_one_size(data):
        return
    images = data.splits["test"][0]
    assert isinstance(images, Tensor)
    changes: dict[str, Callable[[Tensor], Tensor]] = dict(IMAGE_CHANGES)
    if data.augmentation is not None and flip in data.augmentation.transforms:
        changes[MIRROR] = partial(torch.flip, dims=(3,))
    logits = image_logits(task, data)
    chosen = drawn_samples(len(images), SAMPLES, seed=run.seed)
    pixels = images[chosen].float() / data.max_value
    first = logits(pixels)
    for name, change in changes.items():
        yield name, first, logits(change(pixels))


def _graph_pairs(run: Run) -> Iterator[Pair]:
    batch = next(run.batches("test"))
    if batch.get("edge_index") is None or batch.get("shapes") is not None:
        return
    generator = torch.Generator().manual_seed(run.seed)
    sizes, start, parts = lengths(batch), 0, []
    for size in sizes:
        parts.append(start + torch.randperm(size, generator=generator))
        start += size
    order = torch.cat(parts)
    identity = renumbered(batch, torch.arange(len(order)))
    first, second = _output(run.task, identity), _output(run.task, renumbered(batch, order))
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return
    if len(first) == len(order):  # a row for each node
        first = first[order]
    yield "nodes in another order", first, second


def _output(task: Task, batch: BatchLike) -> object:
    return task.predict_step(batch, 0)
