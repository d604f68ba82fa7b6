"""Attention over edges in tiles: a dense product for each group of targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphformer.adjacency import TiledEdges, Tiles
from graphformer.ops.common import upcast
from graphformer.ops.content.flash_tiles import flash_tiles, supports
from graphformer.ops.offset_bias import OffsetBias

_NUMBERS = 1 << 23
"""Gathered keys, values and masks of a chunk of tiles have about this many numbers."""


class _Rows(NamedTuple):
    """Queries, keys and values head by head, and a last row of zeros.

    Tiles that are filled up have row -1, which is that of zeros: a row of another sample would add
    its NaN and infinity, as zero times NaN is NaN.
    """

    q: Tensor
    """[H M + 1, D]."""
    k: Tensor
    """[Hkv N + 1, D]."""
    v: Tensor
    """[Hkv N + 1, Dv]."""
    keys: Tensor
    """The row of k and v for row h N + j of head h, and the last one, int64 [H N + 1]."""


class _RowBias(NamedTuple):
    """A bias by relative position, for rows that are numbered by head."""

    bias: OffsetBias
    targets: Tensor
    """The position of each target, int64 [M]."""
    sources: Tensor
    """The position of each source, int64 [N]."""

    def of_tiles(self, tiles: Tiles, part: Tensor) -> Tensor:
        """Return the bias of some tiles, [t, m, n]; any numbers where there is no edge."""
        target, source = (x[part].clamp(min=0) for x in (tiles.targets, tiles.sources))
        place = self.targets[target % len(self.targets)]
        offsets = self.sources[source % len(self.sources)].unsqueeze(1) - place.unsqueeze(2)
        return self.bias.of_heads(offsets, target[:, :1].unsqueeze(2) // len(self.targets))


@torch.compiler.disable(reason="edges made from content have shapes that depend on data")
def tiled_attention(
    q: Tensor, k: Tensor, v: Tensor, adjacency: TiledEdges, *, scale: float,
    dropout: float = 0.0, bias: OffsetBias | None = None,
) -> Tensor:  # fmt: skip
    """Return softmax(scale q k^T + b) v over the edges of each head, [M, H, Dv].

    Memory is bounded by that of a chunk of tiles; in training the chunks are computed again in the
    backward pass.

    Args:
        q: queries, [M, H, D].
        k: keys, [N, Hkv, D]; Hkv divides H.
        v: values, [N, Hkv, Dv].
        adjacency: M targets by N sources.
        scale: factor of the logits.
        dropout: probability of dropping an attention weight.
        bias: b, added to the logits.
    """
    if bias is None and not dropout and supports(q, k, v):
        return flash_tiles(q, k, v, adjacency.rounds, scale)
    targets, heads = q.shape[:2]
    sources, kv_heads = k.shape[:2]
    kv_rows = torch.arange(kv_heads * sources, device=q.device).view(kv_heads, sources)
    keys = kv_rows.repeat_interleave(heads // kv_heads, dim=0).flatten()
    keys = F.pad(keys, (0, 1), value=kv_heads * sources)
    rows = _Rows(_by_head(q), _by_head(k), _by_head(v), keys)
    is_single = len(adjacency.rounds) == 1
    attend: Callable[..., tuple[Tensor, Tensor]] = partial(_attend_single, scale=scale)
    if bias is not None or not is_single:
        row_bias = None if bias is None else _RowBias(bias, *bias.positions_on(adjacency))
        attend = partial(_attend, scale=scale, row_bias=row_bias)
    attend = partial(attend, dropout=dropout)
    results = [_round(rows, tiles, attend) for tiles in adjacency.rounds]
    out = results[0][0] if is_single else _combine(results)
    return out.view(heads, targets, v.shape[2]).transpose(0, 1).contiguous()


def _combine(results: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Combine the rounds' results o_r by their log-sum-exp l_r: sum_r exp(l_r - l) o_r."""
    outs, sums = (torch.stack(each) for each in zip(*results, strict=True))
    share = sums.softmax(0).to(outs.dtype)
    return (share.unsqueeze(-1) * outs).sum(0)


def _by_head(x: Tensor) -> Tensor:
    """[N, H, D] as [H N + 1, D], the last row zeros."""
    return F.pad(x.transpose(0, 1).flatten(0, 1), (0, 0, 0, 1))


def _round(
    rows: _Rows, tiles: Tiles, attend: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return the output [H M, Dv] and the log-sum-exp [H M] of one set of tiles."""
    m, n = tiles.targets.shape[1], tiles.sources.shape[1]
    per_tile = n * (rows.k.shape[1] + rows.v.shape[1] + 2 * m) + 1
    step = max(1, _NUMBERS // per_tile // tiles.run) * tiles.run
    outs, sums, order = [rows.v[:0]], upcast(rows.v[:0, 0]), [tiles.targets[:0]]
    recompute = torch.is_grad_enabled() and any(x.requires_grad for x in rows[:3])
    for numbers, is_full in tiles.by_fullness():
        for part in numbers.split(step) if len(numbers) else ():
            arguments = (*rows, tiles, part, is_full)
            if recompute:
                out, total = checkpoint(attend, *arguments, use_reentrant=False)
            else:
                out, total = attend(*arguments)
            outs.append(out.flatten(0, 1))
            sums.append(total.flatten(0, 1))
            order.append(tiles.targets[part])
    place = torch.empty(len(rows.q) - 1, dtype=torch.int64, device=rows.q.device)
    targets = torch.cat(order).flatten()
    present = (targets >= 0).nonzero().flatten()
    place[targets[present]] = present
    return torch.cat(outs)[place], torch.cat(sums)[place]


def _gather(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, tiles: Tiles, part: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [t, m, D], k [t, n, D] and v [t, n, Dv] of some tiles."""
    source = keys[tiles.sources[part]]
    return q[tiles.targets[part]], k[source], v[source]


def _attend_single(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, tiles: Tiles, part: Tensor, is_full: bool,
    *, scale: float, dropout: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output [t, m, Dv] of tiles that are the only ones of their targets, and zeros.

    Keys and values are gathered once for each run of r tiles.
    """
    mask: Tensor | None = tiles.full_edges() if is_full else None
    empty = None
    runs = (-1, tiles.run)
    if not is_full:
        mask = tiles.edges(part)
        has_edges = mask.any(-1) if tiles.has_edges is None else tiles.has_edges[part]
        empty = ~has_edges.unsqueeze(-1)
        mask = (mask | empty if empty.any() else mask).unflatten(0, runs)
    source = keys[tiles.sources[part[:: tiles.run]]]
    k, v = (x[source].unsqueeze(1).expand(-1, tiles.run, -1, -1) for x in (k, v))
    q = q[tiles.targets[part]].unflatten(0, runs)
    # [t / r, r, m, D] on [t / r, r, n, D]
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale
    ).flatten(0, 1)
    out = out if empty is None else out.masked_fill(empty, 0)
    return out.to(v.dtype), upcast(out.new_zeros(out.shape[:2]))[0]


def _attend(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, tiles: Tiles, part: Tensor, is_full: bool,
    *, scale: float, dropout: float, row_bias: _RowBias | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output [t, m, Dv] of tiles and the log-sum-exp of the logits, [t, m].

    A target without an edge has zeros and a very small, but finite, log-sum-exp.
    """
    mask = tiles.full_edges() if is_full else tiles.edges(part)
    q, k, v = _gather(q, k, v, keys, tiles, part)
    wide_q, wide_k = upcast(q, k)
    with torch.autocast(q.device.type, enabled=False):
        logits = wide_q @ wide_k.transpose(1, 2) * scale
    if row_bias is not None:
        logits = logits + row_bias.of_tiles(tiles, part)
    if mask is not None:  # minus infinity has no gradient in an empty row
        logits = logits.masked_fill(~mask, -1e30)
    total = logits.logsumexp(-1).clamp(min=-1e30)  # tiles may have no sources at all
    weights = (logits - total.unsqueeze(-1)).exp()
    weights = F.dropout(weights if mask is None else weights * mask, dropout)
    return (weights.to(v.dtype) @ v), total
