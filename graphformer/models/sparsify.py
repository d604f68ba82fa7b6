"""Sparse adjacencies learned from data: the edges that carry a given share of the attention."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models.generation import eval_mode
from graphformer.nn.record import AttentionRecord, record_attention
from graphformer.patterns import FixedEdges, Offsets, Pattern, PerHead, PerLayer, lengths

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

EdgeClass: TypeAlias = Literal["offset", "position"]
Granularity: TypeAlias = Literal["model", "layer", "head"]
_SELF_ATTENTION = re.compile(r"(^|\.)transformer\.blocks\.\d+\.attention$")


@torch.inference_mode()
def learn_adjacency(
    model: nn.Module,
    batches: Iterable[BatchLike],
    *,
    share: float = 0.95,
    by: EdgeClass = "offset",
    per: Granularity = "layer",
    ends: int = 1,
) -> Pattern:
    """Return a pattern of the fewest edges that carry a share of a model's attention.

    Edges are grouped into classes, and a class is in the pattern or not. By "offset", edges of
    equal offset (source minus target) are a class; edges from or to the first and last `ends`
    nodes of a sample have classes of their own, one per such node, which stand for sources that
    all nodes attend to and targets that attend to all nodes. By "position", each pair of positions
    is a class, for samples of one size. Classes are added in the order of their mean attention per
    edge until the share is reached. Offsets that do not occur in the sample are not in the pattern.

    Args:
        model: with an adjacency of its own, such as the complete one.
        batches: a sample of data.
        share: of the attention, above 0 and at most 1.
        by: how edges are grouped.
        per: whether the whole model, each layer, or each head of each layer has its own edges.
        ends: number of nodes at each end that have classes of their own; with "offset".

    Returns:
        `Offsets` or `FixedEdges`; `PerLayer` of them, or of `PerHead` of them.

    Raises:
        ValueError: when the share is out of range, there is no batch, or samples differ in size
            with "position".
    """
    if str(by) == "place":  # the old name
        warnings.warn("by='place' is now called 'position'; change it", FutureWarning, stacklevel=2)
        by = "position"
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, expected above 0 and at most 1")
    batches = list(batches)
    sizes = {size for batch in batches for size in lengths(batch)}
    if not sizes:
        raise ValueError("batches: got none, expected at least one sample")
    if by == "position" and len(sizes) > 1:
        raise ValueError(
            f"batches: got samples of {', '.join(map(str, sorted(sizes)))} nodes, expected one "
            "size with by='position'; use by='offset'"
        )
    classes = _Positions(*sizes) if by == "position" else _Offsets(max(sizes), ends)
    mass, count = _attention_by_class(model, batches, classes)
    if per == "model":
        return classes.pattern(_select(mass.sum((0, 1)), count, share))
    if per == "layer":
        return PerLayer(tuple(classes.pattern(_select(m.sum(0), count, share)) for m in mass))
    return PerLayer(
        tuple(
            PerHead(tuple(classes.pattern(_select(head, count, share)) for head in layer))
            for layer in mass
        )
    )


@torch.inference_mode()
def attention_kept(model: nn.Module, batches: Iterable[BatchLike], pattern: Pattern) -> Tensor:
    """Return the share of a model's attention on the edges of a pattern, [layers, H].

    Args:
        model: with an adjacency of its own, on which its attention is measured.
        batches: a sample of data.
        pattern: for the whole model, or one per layer; heads may differ.
    """
    kept = total = torch.zeros(())
    for batch in batches:
        records = _record(model, batch)
        adjacency: Adjacency | list[Adjacency] = pattern(batch)
        per_layer = adjacency if isinstance(adjacency, list) else [adjacency] * len(records)
        shares = []
        for record, edges in zip(records, per_layer, strict=True):
            shares.append((record.weights * _contained(edges, record.adjacency)).double().sum(0))
        kept = kept + torch.stack(shares)
        total = total + torch.stack([record.weights.double().sum(0) for record in records])
    return (kept / total).float()


class _Ends(NamedTuple):
    """Positions of the sources and targets in their samples, and the samples' sizes; all [E]."""

    source: Tensor
    target: Tensor
    size: Tensor

    @classmethod
    def of(cls, adjacency: Adjacency, batch: BatchLike) -> _Ends:
        """Return the ends of the edges of a batch's adjacency."""
        sizes = torch.tensor(lengths(batch), device=adjacency.device)
        starts = sizes.cumsum(0) - sizes
        source, target = adjacency.edge_index
        sample = torch.searchsorted(sizes.cumsum(0), target, right=True)
        return cls(source - starts[sample], target - starts[sample], sizes[sample])


class _Offsets:
    """Classes by offset, and by position at the ends of samples.

    Numbers: first sources, last sources, first targets, last targets (`ends` each), then offsets
    from 1 - longest to longest - 1.
    """

    def __init__(self, longest: int, ends: int) -> None:
        self.longest, self.ends = longest, ends
        self.number = 4 * ends + 2 * longest - 1

    def __call__(self, edges: _Ends) -> Tensor:
        """Return the class of each edge, int64 [E]."""
        number = 4 * self.ends + edges.source - edges.target + self.longest - 1
        # An edge at both a source and a target end is counted as a source.
        for shift, position in ((2 * self.ends, edges.target), (0, edges.source)):
            from_end = edges.size - 1 - position
            number = torch.where(from_end < self.ends, shift + self.ends + from_end, number)
            number = torch.where(position < self.ends, shift + position, number)
        return number

    def pattern(self, selected: Tensor) -> Offsets:
        """Return the pattern of the selected classes."""
        numbers, ends = selected.tolist(), self.ends
        positions = [*range(ends), *(-1 - position for position in range(ends))]
        return Offsets(
            tuple(n - 4 * ends - self.longest + 1 for n in numbers if n >= 4 * ends),
            tuple(positions[n] for n in numbers if n < 2 * ends),
            tuple(positions[n - 2 * ends] for n in numbers if 2 * ends <= n < 4 * ends),
        )


class _Positions:
    """Classes by the positions of both ends, in samples of one size; target * size + source."""

    def __init__(self, size: int) -> None:
        self.size, self.number = size, size * size

    def __call__(self, edges: _Ends) -> Tensor:
        """Return the class of each edge, int64 [E]."""
        return edges.target * self.size + edges.source

    def pattern(self, selected: Tensor) -> FixedEdges:
        """Return the pattern of the selected classes."""
        mask = torch.zeros(self.number, dtype=torch.bool)
        mask[selected] = True
        return FixedEdges(
            tuple(tuple(row.nonzero().flatten().tolist()) for row in mask.view(self.size, -1))
        )


def _attention_by_class(
    model: nn.Module, batches: Sequence[BatchLike], classes: _Offsets | _Positions
) -> tuple[Tensor, Tensor]:
    """Return the attention by class, [layers, H, classes], and the number of edges, [classes]."""
    mass: Tensor | None = None
    count = torch.zeros(classes.number, dtype=torch.float64)
    for batch in batches:
        records = _record(model, batch)
        for layer, (_, adjacency, weights) in enumerate(records):
            number = classes(_Ends.of(adjacency, batch)).cpu()
            if mass is None:
                mass = count.new_zeros(len(records), weights.shape[1], classes.number)
            mass[layer].index_add_(1, number, weights.T.double().cpu())
            if layer == 0:  # all layers have the same edges
                count += torch.bincount(number, minlength=classes.number)
    assert mass is not None
    return mass, count


def _select(mass: Tensor, count: Tensor, share: float) -> Tensor:
    """Return the classes of the largest attention per edge that reach the share, ascending."""
    order = (mass / count.clamp(min=1)).argsort(descending=True, stable=True)
    order = order[mass[order] > 0]
    total = mass[order].cumsum(0)
    number = int(torch.searchsorted(total, share * total[-1])) + 1
    return order[:number].sort().values


def _record(model: nn.Module, batch: BatchLike) -> list[AttentionRecord]:
    """Return the self-attention of each block of the model on a batch."""
    with eval_mode(model), record_attention(model) as records:
        model(batch)
    found = [record for record in records if _SELF_ATTENTION.search(record.name)]
    if not found:
        raise ValueError(
            f"model: got {type(model).__name__}, expected a graphformer Model, whose blocks have "
            "attention"
        )
    return found


def _contained(edges: Adjacency, among: Adjacency) -> Tensor:
    """Return which edges of `among` are in `edges`, bool [E, 1], or [E, H] if heads differ."""
    source, target = among.edge_index
    heads = getattr(edges, "heads", None)
    if heads is None:
        return edges.contains(target, source).unsqueeze(1)
    number = edges.find_edges(target, source)
    return heads[number.clamp(min=0)] & (number >= 0).unsqueeze(1)
