"""Measurement of what a sparser adjacency changes in a trained model: quality, time and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, ContentAdjacency, Selection
from graphformer.cli.profiling import peak_memory
from graphformer.data.batch import BatchLike
from graphformer.models.generation import eval_mode
from graphformer.nn.head import pool
from graphformer.patterns import Complete, Pattern, lengths


@dataclass(frozen=True)
class Measurement:
    """The figures of one pattern at one length.

    Attributes:
        pattern: name of the pattern.
        length: maximum number of tokens of a text.
        quality: agreement with the original's output, or with the labels; see `MeasuredModel`.
        edges: number of edges per token, on average.
        milliseconds: time per text, the median over rounds.
        memory: peak number of bytes allocated in a forward pass.
    """

    pattern: str
    length: int
    quality: float
    edges: float
    milliseconds: float
    memory: int


class MeasuredModel:
    """A text model whose adjacency is replaced, and the measure of its quality.

    `measure` names the quality: "cosine" similarity to the original's vectors, "accuracy" if there
    are labels, or "perplexity" of a causal language model.

    Args:
        network: `network(batch, adjacency)`.
        original: the pattern that it was trained with.
        labels: the class of each text; None without labels.
    """

    def __init__(self, network: Any, original: Pattern, labels: Sequence[int] | None) -> None:
        self.network, self.original, self.labels = network, original, labels
        self.measure = "cosine" if labels is None else "accuracy"

    def restrict(self, pattern: Pattern) -> Pattern:
        """Return the pattern's edges that are also in the original."""
        if pattern == self.original or isinstance(self.original, Complete):
            return pattern
        return pattern & self.original

    def choose_measure(self, batch: BatchLike) -> None:
        """Set `measure` by the shape of the output for a batch.

        Raises:
            ValueError: when there are labels that the model has no classes for.
        """
        rows, nodes = self.outputs(batch, self.original), batch.num_nodes
        if self.labels is None:
            is_language_model = rows.shape[0] == nodes and _is_causal(self.original, batch)
            self.measure = "perplexity" if is_language_model else "cosine"
        elif rows.shape[0] != len(batch.lengths) or max(self.labels) >= rows.shape[1]:
            raise ValueError(
                f"labels: got {max(self.labels) + 1} classes, expected a model that classifies "
                "texts into as many; leave out --label"
            )

    @torch.inference_mode()
    def outputs(self, batch: BatchLike, pattern: Pattern) -> Tensor:
        """Return the network's output for a batch over a pattern, in evaluation mode."""
        with eval_mode(self.network):
            rows: Tensor = self.network(batch, pattern(batch))
        return rows

    def quality(
        self, batches: Sequence[BatchLike], pattern: Pattern, vectors: list[Tensor]
    ) -> float:
        """Return the quality over all batches.

        Args:
            batches: all texts.
            pattern: who attends to whom.
            vectors: cache of the original's vectors; filled at the first call that needs them.
        """
        if self.measure == "perplexity":
            sums = [_log_likelihood(self.outputs(b, pattern), b) for b in batches]
            return math.exp(-sum(total for total, _ in sums) / sum(count for _, count in sums))
        rows = [self._text_rows(batch, pattern) for batch in batches]
        if self.measure == "accuracy":
            labels = torch.tensor(self.labels)
            return float((torch.cat(rows).argmax(-1).cpu() == labels).double().mean())
        if not vectors:
            vectors += [self._text_rows(batch, self.original) for batch in batches]
        pairs = zip(rows, vectors, strict=True)
        cosines = [F.cosine_similarity(a.double(), b.double(), dim=-1) for a, b in pairs]
        return float(torch.cat(cosines).mean())

    def _text_rows(self, batch: BatchLike, pattern: Pattern) -> Tensor:
        """Return one row per text: the output, or the mean over its nodes."""
        rows = self.outputs(batch, pattern)
        is_per_node = rows.shape[0] == batch.num_nodes != len(batch.lengths)
        return pool(rows, lengths(batch), "mean") if is_per_node else rows


def measure_tradeoff(
    model: MeasuredModel,
    patterns: Mapping[str, Pattern],
    batches: Callable[[int], Sequence[BatchLike]],
    sizes: Sequence[int],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Measurement]:
    """Measure all patterns at all lengths; the patterns alternate within each round of timing.

    Args:
        model: the model.
        patterns: patterns by the name to show; the first should be the original.
        batches: returns all texts, truncated to a number of tokens, in batches.
        sizes: the numbers of tokens.
        rounds: number of timed rounds, after one that is discarded.
        clock: returns a time in seconds.
        progress: called with a description of each measurement.
    """
    for size in sizes:
        texts, vectors = batches(size), list[Tensor]()
        restricted = {name: model.restrict(pattern) for name, pattern in patterns.items()}
        quality = {}
        for name, pattern in restricted.items():
            progress(f"{size} tokens, {name}")
            quality[name] = model.quality(texts, pattern, vectors)
        first = texts[0]
        seconds = _interleaved_seconds(model, restricted, first, rounds, clock)
        for name, pattern in restricted.items():
            yield Measurement(
                name,
                size,
                quality[name],
                _edges_of(model, pattern, first) / first.num_nodes,
                1000 * median(seconds[name]) / len(first.lengths),
                peak_memory(partial(model.outputs, first, pattern)),
            )


def _interleaved_seconds(
    model: MeasuredModel,
    patterns: Mapping[str, Pattern],
    batch: BatchLike,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Return the times of a forward pass, `rounds` for each pattern."""
    seconds: dict[str, list[float]] = {name: [] for name in patterns}
    for number in range(rounds + 1):
        for name, pattern in patterns.items():
            start = clock()
            model.outputs(batch, pattern)
            if number > 0:  # the first round warms up
                seconds[name].append(clock() - start)
    return seconds


def _edges_of(model: MeasuredModel, pattern: Pattern, batch: BatchLike) -> float:
    """Return the number of edges of a batch, on average over layers and heads."""
    adjacency: Any = pattern(batch)
    several = adjacency if isinstance(adjacency, list) else [adjacency]
    if not any(isinstance(each, ContentAdjacency) for each in several):
        return _num_edges(adjacency)
    counts: list[float] = []

    def counted(each: Adjacency) -> Adjacency:
        if isinstance(each, ContentAdjacency):
            return replace(each, rule=_Counted(each.rule, counts))
        counts.append(_num_edges(each))
        return each

    layers = list(map(counted, several))
    with torch.inference_mode(), eval_mode(model.network):
        model.network(batch, layers if isinstance(adjacency, list) else layers[0])
    return sum(counts) / len(counts)


@dataclass(frozen=True)
class _Counted:
    """A rule that also counts the edges that it selects."""

    rule: Selection
    counts: list[float]
    """The number of edges of each call, on average over heads."""

    @property
    def causal(self) -> bool:
        return self.rule.causal

    def in_training(self) -> Selection:
        return replace(self, rule=self.rule.in_training())

    def select(self, q: Tensor, k: Tensor, lengths: tuple[int, ...]) -> Adjacency:
        edges: Any = self.rule.select(q, k, lengths)
        self.counts.append(edges.num_head_edges / q.shape[1])
        return edges

    def mask(self, q: Tensor, k: Tensor, first: int = 0) -> Tensor:
        return self.rule.mask(q, k, first)


def _num_edges(adjacency: Any) -> float:
    """Return the number of edges, on average over layers and heads."""
    if isinstance(adjacency, list):
        return sum(map(_num_edges, adjacency)) / len(adjacency)
    heads = getattr(adjacency, "heads", None)
    return adjacency.num_edges if heads is None else heads.sum().item() / heads.shape[1]


def _is_causal(pattern: Pattern, batch: BatchLike) -> bool:
    adjacency: Any = pattern(batch)
    layers = adjacency if isinstance(adjacency, list) else [adjacency]
    return all(bool((a.edge_index[0] <= a.edge_index[1]).all()) for a in layers)


def _log_likelihood(logits: Tensor, batch: BatchLike) -> tuple[float, int]:
    """Return the sum over all tokens but the first of each text, and their number."""
    ends = torch.tensor(batch.lengths).cumsum(0) - 1
    has_next = torch.ones(batch.num_nodes, dtype=torch.bool)
    has_next[ends] = False
    nodes = has_next.nonzero().flatten().to(logits.device)
    loss = F.cross_entropy(logits[nodes].float(), batch.x[nodes + 1], reduction="sum")
    return -float(loss), len(nodes)
