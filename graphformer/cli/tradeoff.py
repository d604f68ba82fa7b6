"""What a sparser adjacency costs a trained model, and what it saves: quality, time and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.cli.profiling import peak_memory
from graphformer.models.generation import eval_mode
from graphformer.nn.head import pool
from graphformer.patterns import Complete, Pattern, lengths

Ids = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Measurement:
    """What one pattern gave at one length.

    Attributes:
        pattern: as it was spelled.
        length: the most tokens a text.
        quality: how near the answers are to the original's, or to the truth; see `MeasuredModel`.
        edges: of a token, on average.
        milliseconds: of a text, the median of some rounds.
        memory: the most bytes alive at once, over the weights.
    """

    pattern: str
    length: int
    quality: float
    edges: float
    milliseconds: float
    memory: int


class MeasuredModel:
    """A model whose adjacency is to be changed, and what its answers are worth.

    `measure` names the quality: "cosine" of vectors to the original's, "accuracy" where there are
    labels, or "perplexity" of a causal language model.

    Args:
        network: `network(batch, adjacency)`.
        original: the pattern that it was trained with.
        labels: the class of each text; None without.
    """

    def __init__(self, network: Any, original: Pattern, labels: Sequence[int] | None) -> None:
        self.network, self.original, self.labels = network, original, labels
        self.measure = "cosine" if labels is None else "accuracy"

    def kept(self, pattern: Pattern) -> Pattern:
        """The edges of the pattern that the original has too."""
        if pattern == self.original or isinstance(self.original, Complete):
            return pattern
        return pattern & self.original

    def probe(self, batch: Any) -> None:
        """Look at an answer, to know what it is worth.

        Raises ValueError for labels that the model has no classes for.
        """
        rows, nodes = self.answer(batch, self.original), batch.num_nodes
        writes = rows.shape[0] == nodes and _is_causal(self.original, batch)
        if self.labels is None:
            self.measure = "perplexity" if writes else "cosine"
        elif rows.shape[0] != len(batch.lengths) or max(self.labels) >= rows.shape[1]:
            raise ValueError(
                "labels are given, but the model has no such classes for texts: leave --label out"
            )

    @torch.inference_mode()
    def answer(self, batch: Any, pattern: Pattern) -> Tensor:
        """The network's output for a batch."""
        with eval_mode(self.network):
            rows: Tensor = self.network(batch, pattern(batch))
        return rows

    def quality(self, batches: Sequence[Any], pattern: Pattern, vectors: list[Tensor]) -> float:
        """The quality over all batches; `vectors` keeps the original's, made on the first call."""
        if self.measure == "perplexity":
            totals = [_log_likelihood(self.answer(b, pattern), b) for b in batches]
            return math.exp(-sum(t for t, _ in totals) / sum(n for _, n in totals))
        answers = [self._rows(batch, pattern) for batch in batches]
        if self.measure == "accuracy":
            truth = torch.tensor(self.labels)
            return float((torch.cat(answers).argmax(-1).cpu() == truth).double().mean())
        if not vectors:
            vectors += [self._rows(batch, self.original) for batch in batches]
        pairs = zip(answers, vectors, strict=True)
        cosines = [F.cosine_similarity(a.double(), v.double(), dim=-1) for a, v in pairs]
        return float(torch.cat(cosines).mean())

    def _rows(self, batch: Any, pattern: Pattern) -> Tensor:
        """One row a text: the answer, or the mean of its nodes' answers."""
        rows = self.answer(batch, pattern)
        several = rows.shape[0] == batch.num_nodes != len(batch.lengths)
        return pool(rows, lengths(batch), "mean") if several else rows


def measure_tradeoff(
    subject: MeasuredModel,
    patterns: Mapping[str, Pattern],
    batches: Callable[[int], Sequence[Any]],
    sizes: Sequence[int],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str], None] = lambda text: None,
) -> Iterator[Measurement]:
    """Measure all patterns at all lengths; their times are taken in turn.

    Args:
        subject: the model.
        patterns: by the name to show; the first should be the original.
        batches: all texts, cut to so many tokens, in batches.
        sizes: the lengths.
        rounds: of timing.
        clock: that times are taken with, in seconds.
        progress: told what is being measured.
    """
    for size in sizes:
        made, vectors = batches(size), list[Tensor]()
        kept = {name: subject.kept(pattern) for name, pattern in patterns.items()}
        quality = {}
        for name, pattern in kept.items():
            progress(f"{size} tokens, {name}")
            quality[name] = subject.quality(made, pattern, vectors)
        first = made[0]
        count, nodes = len(first.lengths), first.num_nodes
        seconds: dict[str, list[float]] = {name: [] for name in kept}
        for _ in range(rounds + 1):  # the first warms up
            for name, pattern in kept.items():
                seconds[name].append(_timed(partial(subject.answer, first, pattern), clock))
        for name, pattern in kept.items():
            yield Measurement(
                name,
                size,
                quality[name],
                _edges(pattern(first)) / nodes,
                1000 * median(seconds[name][1:]) / count,
                peak_memory(partial(subject.answer, first, pattern)),
            )


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start


def _edges(adjacency: Any) -> float:
    """The edges of an adjacency, on average over layers and heads."""
    if isinstance(adjacency, list):
        return sum(map(_edges, adjacency)) / len(adjacency)
    heads = getattr(adjacency, "heads", None)
    return adjacency.num_edges if heads is None else heads.sum().item() / heads.shape[1]


def _is_causal(pattern: Pattern, batch: Any) -> bool:
    made: Any = pattern(batch)
    made = made if isinstance(made, list) else [made]
    return all(bool((a.edge_index[0] <= a.edge_index[1]).all()) for a in made)


def _log_likelihood(logits: Tensor, batch: Any) -> tuple[float, int]:
    """Of each text's tokens but the first, in sum, and their number."""
    ends = torch.tensor(batch.lengths).cumsum(0) - 1
    read = torch.ones(batch.num_nodes, dtype=torch.bool)
    read[ends] = False
    nodes = read.nonzero().flatten().to(logits.device)
    loss = F.cross_entropy(logits[nodes].float(), batch.x[nodes + 1], reduction="sum")
    return -float(loss), len(nodes)
