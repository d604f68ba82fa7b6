"""Adjacency learned from data: the edges that carry a given share of a model's attention."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.models.generation import eval_mode
from graphformer.nn.record import AttentionRecord, record_attention
from graphformer.patterns import FixedEdges, Offsets, Pattern, PerHead, PerLayer, lengths

By = Literal["offset", "place"]
Per = Literal["model", "layer", "head"]
_SELF_ATTENTION = re.compile(r"(^|\.)transformer\.blocks\.\d+\.attention$")


@torch.inference_mode()
def learn_adjacency(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    share: float = 0.95,
    by: By = "offset",
    per: Per = "layer",
    ends: int = 1,
) -> Pattern:
    """The fewest edges that carry a share of a model's attention on a sample, as a pattern.

    Edges are kept by what they are: by "offset", how far the source is from the target, where the
    first and the last places of a text are kinds of their own, as sources that all attend to and
    as targets that attend to all; by "place", each pair of places, for samples of one size. Kinds
    are taken by the attention that an edge of theirs carries on average, until the share is
    reached. What lies farther apart than anything in the sample is never kept.

    Args:
        model: with an adjacency of its own, such as the complete one.
        batches: the sample.
        share: of the attention that is to be kept, above 0 and at most 1.
        by: what edges are told apart by.
        per: whether the whole model, each layer, or each head of each layer has its own edges.
        ends: of "offset": how many places at each end are kinds of their own.

    Returns:
        `Offsets` or `FixedEdges`; `PerLayer` of them, or of `PerHead` of them.

    Raises ValueError for a share out of range, no batch, or samples of several sizes by "place".
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    batches = list(batches)
    sizes = {size for batch in batches for size in lengths(batch)}
    if not sizes or (by == "place" and len(sizes) > 1):
        raise ValueError(
            f"batches must have samples{' of one size' * (by == 'place')}, got "
            f"{', '.join(map(str, sorted(sizes))) or 'none'}"
        )
    kinds = _Places(*sizes) if by == "place" else _Offsets(max(sizes), ends)
    mass, count = _gather(model, batches, kinds)
    if per == "model":
        return kinds.pattern(_chosen(mass.sum((0, 1)), count, share))
    if per == "layer":
        return PerLayer(tuple(kinds.pattern(_chosen(m.sum(0), count, share)) for m in mass))
    return PerLayer(
        tuple(
            PerHead(tuple(kinds.pattern(_chosen(head, count, share)) for head in layer))
            for layer in mass
        )
    )


@torch.inference_mode()
def attention_kept(model: nn.Module, batches: Iterable[Any], pattern: Pattern) -> Tensor:
    """The share of a model's attention that runs along a pattern's edges, [layers, H].

    Args:
        model: with an adjacency of its own, whose attention is looked at.
        batches: the sample.
        pattern: for the whole model, or one a layer; perhaps of heads that differ.
    """
    kept = total = torch.zeros(())
    for batch in batches:
        recorded = _recorded(model, batch)
        made: Any = pattern(batch)
        made = made if isinstance(made, list) else [made] * len(recorded)
        shares = []
        for record, edges in zip(recorded, made, strict=True):
            shares.append((record.weights * _present(edges, record.adjacency)).double().sum(0))
        kept = kept + torch.stack(shares)
        total = total + torch.stack([record.weights.double().sum(0) for record in recorded])
    return (kept / total).float()


class _Ends(NamedTuple):
    """Where edges begin and end in their samples, and the samples' sizes; all [E]."""

    source: Tensor
    target: Tensor
    size: Tensor

    @classmethod
    def of(cls, adjacency: Adjacency, batch: Any) -> _Ends:
        """The ends of the edges of a batch."""
        sizes = torch.tensor(lengths(batch), device=adjacency.device)
        starts = sizes.cumsum(0) - sizes
        source, target = adjacency.edge_index
        sample = torch.searchsorted(sizes.cumsum(0), target, right=True)
        return cls(source - starts[sample], target - starts[sample], sizes[sample])


class _Offsets:
    """Kinds of edges by offset, with first and last places apart: sources, targets, the rest."""

    def __init__(self, longest: int, ends: int) -> None:
        self.longest, self.ends = longest, ends
        self.number = 4 * ends + 2 * longest - 1

    def __call__(self, edges: _Ends) -> Tensor:
        kind = 4 * self.ends + edges.source - edges.target + self.longest - 1
        for shift, place in ((2 * self.ends, edges.target), (0, edges.source)):  # sources win
            last = edges.size - 1 - place
            kind = torch.where(last < self.ends, shift + self.ends + last, kind)
            kind = torch.where(place < self.ends, shift + place, kind)
        return kind

    def pattern(self, chosen: Tensor) -> Offsets:
        numbers, ends = chosen.tolist(), self.ends
        places = [*range(ends), *(-1 - place for place in range(ends))]
        return Offsets(
            tuple(n - 4 * ends - self.longest + 1 for n in numbers if n >= 4 * ends),
            tuple(places[n] for n in numbers if n < 2 * ends),
            tuple(places[n - 2 * ends] for n in numbers if 2 * ends <= n < 4 * ends),
        )


class _Places:
    """Kinds of edges by both of their places, in samples of one size."""

    def __init__(self, size: int) -> None:
        self.size, self.number = size, size * size

    def __call__(self, edges: _Ends) -> Tensor:
        return edges.target * self.size + edges.source

    def pattern(self, chosen: Tensor) -> FixedEdges:
        mask = torch.zeros(self.number, dtype=torch.bool)
        mask[chosen] = True
        return FixedEdges(
            tuple(tuple(row.nonzero().flatten().tolist()) for row in mask.view(self.size, -1))
        )


def _gather(
    model: nn.Module, batches: Sequence[Any], kinds: _Offsets | _Places
) -> tuple[Tensor, Tensor]:
    """The attention of each layer and head by kind, [layers, H, kinds], and the edges [kinds]."""
    mass: Tensor | None = None
    count = torch.zeros(kinds.number, dtype=torch.float64)
    for batch in batches:
        recorded = _recorded(model, batch)
        for layer, (_, adjacency, weights) in enumerate(recorded):
            kind = kinds(_Ends.of(adjacency, batch)).cpu()
            if mass is None:
                mass = count.new_zeros(len(recorded), weights.shape[1], kinds.number)
            mass[layer].index_add_(1, kind, weights.T.double().cpu())
            if layer == 0:
                count += torch.bincount(kind, minlength=kinds.number)
    assert mass is not None
    return mass, count


def _chosen(mass: Tensor, count: Tensor, share: float) -> Tensor:
    """The kinds with most attention an edge, as few as carry the share of all, ascending."""
    order = (mass / count.clamp(min=1)).argsort(descending=True, stable=True)
    order = order[mass[order] > 0]
    total = mass[order].cumsum(0)
    enough = int(torch.searchsorted(total, share * total[-1])) + 1
    return order[:enough].sort().values


def _recorded(model: nn.Module, batch: Any) -> list[AttentionRecord]:
    with eval_mode(model), record_attention(model) as recorded:
        model(batch)
    found = [record for record in recorded if _SELF_ATTENTION.search(record.name)]
    if not found:
        raise ValueError(
            f"model must be a graphformer Model, whose blocks attend, got {type(model).__name__}"
        )
    return found


def _present(edges: Adjacency, among: Adjacency) -> Tensor:
    """Which edges of `among` are there too, bool [E, 1], or [E, H] where heads differ."""
    source, target = among.edge_index
    heads = getattr(edges, "heads", None)
    if heads is None:
        return edges.contains(target, source).unsqueeze(1)
    number = edges.find_edges(target, source)
    return heads[number.clamp(min=0)] & (number >= 0).unsqueeze(1)
