"""Attention over edges in tiles by torch's flash attention for the CPU.

It returns the log-sum-exp of the logits of each target, with which the results of several tiles of
a target are combined. Its backward pass takes the output and the log-sum-exp over all tiles, so
that nothing is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from graphformer.adjacency import Tiles

_NUMBERS = 1 << 18
"""Gathered keys and values of a call have about this many numbers, which fit into the cache."""
_EMPTY = -1e30
"""The log-sum-exp of a target without an edge: very small, but finite."""

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def supports(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether flash attention for the CPU computes queries, keys and values."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1] and q.is_floating_point()


def flash_tiles(q: Tensor, k: Tensor, v: Tensor, rounds: tuple[Tiles, ...], scale: float) -> Tensor:
    """Return softmax(scale q k^T) v over the edges of each head, [M, H, D].

    Args:
        q: queries, [M, H, D].
        k: keys, [N, Hkv, D].
        v: values, [N, Hkv, D].
        rounds: sets of tiles, of which at least one has every target.
        scale: factor of the logits.
    """
    repeats = q.shape[1] // k.shape[1]
    places = _Places(_places(q.shape[0], q.shape[1], 1), _places(k.shape[0], k.shape[1], repeats))
    rows = (_with_zeros(x) for x in (q, k, v))
    out: Tensor = _FlashTiles.apply(*rows, places, rounds, scale)
    return out[:-1].view(q.shape)


def _with_zeros(x: Tensor) -> Tensor:
    """Return x [N, H, D] as rows [N H + 1, D], the last one zeros; x is copied once."""
    count, heads, width = x.shape
    rows = x.new_empty(count * heads + 1, width)
    rows[-1] = 0
    rows[:-1].view(x.shape).copy_(x)
    return rows


class _Places(NamedTuple):
    """Rows i H + h of the nodes i of heads h, whose numbers in tiles are h N + i.

    The last place is that of a row of zeros.
    """

    targets: Tensor
    """The row of q for each number, int64 [H M + 1]."""
    sources: Tensor
    """The row of k and v for each number, int64 [H N + 1]."""


def _places(count: int, heads: int, repeats: int) -> Tensor:
    """Return the row i H + h of each number g N + i, where head h is that of query head g."""
    rows = torch.arange(count * heads).view(count, heads).T.repeat_interleave(repeats, dim=0)
    return F.pad(rows.flatten(), (0, 1), value=count * heads)


class _Piece(NamedTuple):
    """Tiles that are computed in one call, as g runs of r tiles."""

    targets: Tensor
    """Rows of the queries, int64 [g, r, m]; the last one, of zeros, where there is none."""
    sources: Tensor
    """Rows of the keys and values, int64 [g, n]."""
    mask: Tensor | None = None
    """The edges, bool [g, r, m, n]; None for all pairs, or the triangle."""
    has_edges: Tensor | None = None
    """Which targets have an edge, bool [g, r, m]; None if all have."""
    triangle: Tensor | None = None
    """If the last m sources are the nodes of the targets, each a source up to itself: minus
    infinity where there is no edge, else 0, [1, 1, r m, n]."""
    is_first: bool = False
    """Whether no earlier piece has the targets."""

    @property
    def is_folded(self) -> bool:
        """Whether the targets of a run are rows of one product."""
        return self.mask is None

    def of_targets(self, x: Tensor) -> Tensor:
        """Return the rows of x [H M + 1, ...] as [g, r, m, ...], or [g, 1, r m, ...] if folded."""
        rows = _take(x, self.targets)
        return rows.flatten(1, 2).unsqueeze(1) if self.is_folded else rows

    def of_sources(self, x: Tensor) -> Tensor:
        """Return the rows of x [Hkv N + 1, D] as [g, r, n, D], or [g, 1, n, D] if folded."""
        rows = _take(x, self.sources).unsqueeze(1)
        return rows if self.is_folded else rows.expand(-1, self.targets.shape[1], -1, -1)

    def added(self, dtype: torch.dtype) -> Tensor | None:
        """Return minus infinity where there is no edge, else 0, to add to the logits."""
        if self.mask is None:
            return self.triangle
        return torch.zeros_like(self.mask, dtype=dtype).masked_fill_(~self.mask, -torch.inf)


class _FlashTiles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, places: _Places, rounds: tuple[Tiles, ...],
        scale: float,
    ) -> Tensor:  # fmt: skip
        precise = torch.promote_types(q.dtype, torch.float32)
        out = torch.empty(len(q), v.shape[1], dtype=precise, device=q.device)
        total = torch.empty(len(q), dtype=precise, device=q.device)
        if not rounds[0].triangle:  # whose pieces write all rows
            out.zero_()
            total.fill_(_EMPTY)
        for piece in _pieces(places, rounds, q):
            _add(out, total, piece, *_attend(piece, q, k, v, scale))
        out[-1], total[-1] = 0, 0  # of targets that fill tiles up, perhaps NaN
        out = out.to(v.dtype)
        ctx.save_for_backward(q, k, v, out, total)
        ctx.places, ctx.rounds, ctx.scale = places, rounds, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, total = ctx.saved_tensors
        grads = [torch.zeros_like(x, dtype=total.dtype) for x in (q, k, v)]
        for piece in _pieces(ctx.places, ctx.rounds, q):
            found = _backward(
                piece.of_targets(grad), piece.of_targets(q), piece.of_sources(k),
                piece.of_sources(v), piece.of_targets(out), piece.of_targets(total), 0.0, False,
                attn_mask=piece.added(q.dtype), scale=ctx.scale,
            )  # fmt: skip
            rows = (piece.targets, piece.sources, piece.sources)
            for sums, each, row, is_source in zip(grads, found, rows, (0, 1, 1), strict=True):
                each = each.sum(1) if is_source else each
                sums.index_add_(0, row.flatten(), each.reshape(row.numel(), -1).to(sums.dtype))
        return (*(x.to(q.dtype) for x in grads), None, None, None)


def _attend(piece: _Piece, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the outputs [g, r, m, D] and the log-sum-exp [g, r, m] of a piece."""
    mask = piece.added(q.dtype)
    if mask is not None and piece.has_edges is not None:
        mask.masked_fill_(~piece.has_edges.unsqueeze(-1), 0)  # no softmax of nothing
    out, total = _forward(
        piece.of_targets(q), piece.of_sources(k), piece.of_sources(v), 0.0, False, attn_mask=mask,
        scale=scale,
    )  # fmt: skip
    shape = piece.targets.shape
    out, total = out.reshape(*shape, -1), total.reshape(shape)
    if piece.has_edges is not None:
        total = total.masked_fill(~piece.has_edges, _EMPTY)
        out = out.masked_fill(~piece.has_edges.unsqueeze(-1), 0)
    return out, total


def _add(out: Tensor, total: Tensor, piece: _Piece, own: Tensor, own_total: Tensor) -> None:
    """Combine the outputs o and log-sum-exp l of a piece with those of earlier pieces, in place.

    o = o + s (o' - o) with s = exp(l') / (exp(l) + exp(l')), and l = log(exp(l) + exp(l')).
    """
    row, own, own_total = piece.targets.flatten(), own.flatten(0, 2), own_total.flatten()
    if piece.is_first:
        out.index_copy_(0, row, own.to(out.dtype))
        total[row] = own_total.to(total.dtype)
        return
    before, own_total = total[row], own_total.to(total.dtype)
    total[row] = torch.logaddexp(before, own_total)
    share = (own_total - before).sigmoid().unsqueeze(1)
    out.index_copy_(0, row, out.index_select(0, row).lerp_(own.to(out.dtype), share))


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[rows]; on a CPU `index_select` copies whole rows."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])


def _pieces(places: _Places, rounds: tuple[Tiles, ...], q: Tensor) -> Iterator[_Piece]:
    """Yield the tiles of all rounds in pieces of bounded memory, for queries [H M + 1, D]."""
    for number, tiles in enumerate(rounds):
        make = _full if tiles.mask is None else _masked
        for piece in make(places, tiles, q):
            yield piece._replace(is_first=number == 0)


def _masked(places: _Places, tiles: Tiles, q: Tensor) -> Iterator[_Piece]:
    """Yield tiles with a mask of each."""
    assert tiles.mask is not None
    runs, sources = _runs(places, tiles)
    for part in _split(len(runs), sources.shape[1] * (q.shape[1] + runs.shape[1:].numel())):
        groups = slice(part.start * tiles.run, part.stop * tiles.run)
        mask = tiles.mask(groups).unflatten(0, (-1, tiles.run))
        has_edges = mask.any(-1)
        if not has_edges.any():
            continue
        own = places.sources[sources[part]]  # -1 is the row of zeros
        yield _Piece(runs[part], own, mask, None if has_edges.all() else has_edges)


def _full(places: _Places, tiles: Tiles, q: Tensor) -> Iterator[_Piece]:
    """Yield tiles of all pairs, or of triangles; those of as many sources together."""
    runs, sources = _runs(places, tiles)
    # In a triangle the last sources are the nodes of the targets, kept as they are.
    sources, own = sources.tensor_split([sources.shape[1] - tiles.triangle * runs.shape[2]], dim=1)
    present = sources >= 0
    counts = present.sum(1)
    for count in counts.unique().tolist():
        size = count + own.shape[1]
        if not size:
            continue
        numbers = (counts == count).nonzero().flatten()
        triangle = _triangle(runs.shape[1:], size, q) if tiles.triangle else None
        for part in numbers.split(max(1, _NUMBERS // (size * q.shape[1]))):
            others = sources[part][present[part]].view(len(part), count)
            rows = places.sources[torch.cat([others, own[part]], dim=1)]
            yield _Piece(runs[part], rows, triangle=triangle)


def _triangle(shape: torch.Size, n: int, q: Tensor) -> Tensor:
    """Return 0 for the edges of r times m targets to n sources, else -inf, [1, 1, r m, n]."""
    repeats, m = shape
    later = torch.ones(m, n, dtype=torch.bool, device=q.device).triu(n - m + 1)
    numbers = q.new_zeros(m, n).masked_fill_(later, -torch.inf)
    return numbers.repeat(repeats, 1).view(1, 1, repeats * m, n)


def _runs(places: _Places, tiles: Tiles) -> tuple[Tensor, Tensor]:
    """Return the rows of the targets, [g, r, m], and the numbers of the sources, [g, n]."""
    targets = places.targets[tiles.targets].unflatten(0, (-1, tiles.run))
    return targets, tiles.sources[:: tiles.run]


def _split(count: int, numbers: int) -> Iterator[slice]:
    """Yield slices of `count` runs that have about `_NUMBERS` numbers, of `numbers` each."""
    step = max(1, _NUMBERS // max(numbers, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
