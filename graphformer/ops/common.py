"""Shared by the backends: options of every attention, grouped heads, precision, dropout, notice."""

from __future__ import annotations

import logging
import sys
from typing import TypedDict

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency

Result = tuple[Tensor, Tensor | None]
"""The output [M, H, Dv], and the weights [E, H] in edge order if they are returned."""

Output = Tensor | tuple[Tensor, Tensor]
"""What a public function returns: the output, or with `return_weights` also the weights."""


class AttentionOptions(TypedDict):
    """Options of every attention function that the dispatch has checked."""

    bias: Tensor | None
    """Added to the logits, [E, H], in edge order."""
    edge_weight: Tensor | None
    """Multiplies the logits before the bias, [E, H] or [E, 1], in edge order."""
    dropout: float
    """The probability of dropping an attention weight."""
    seed: Tensor | None
    """Seed of the dropout, int64 scalar; None without dropout."""
    return_weights: bool
    """Whether to return the weights, after dropout, as the second result."""


def per_head(x: Tensor, heads: int) -> Tensor:
    """Repeat each of the grouped heads of x [N, Hkv, D] to one per query head, [N, H, D]."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def upcast(*tensors: Tensor) -> list[Tensor]:
    """Convert half precision to float32, in which all backends accumulate; keep other dtypes."""
    half = (torch.float16, torch.bfloat16)
    return [x.float() if x.dtype in half else x for x in tensors]


def edge_products(q: Tensor, k: Tensor, adjacency: Adjacency, scale: float) -> Tensor:
    """Return scale * (q_i . k_j) for each edge, [E, H], in edge order.

    Rules compute all pairs of each sample, without keys that are gathered by edge.
    """
    if isinstance(adjacency, CSR):
        source, target = adjacency.edge_index
        queries, keys = q.index_select(0, target), k.index_select(0, source)
        return scale * torch.linalg.vecdot(queries, per_head(keys, q.shape[1]))
    keys, parts, edges = per_head(k, q.shape[1]), [], []
    for number, bucket in enumerate(adjacency.buckets):
        m, n = bucket.shape
        own_q = q if bucket.targets is None else q[bucket.targets]
        own_k = keys if bucket.sources is None else keys[bucket.sources]
        own_q = own_q.unflatten(0, (bucket.count, m)).transpose(1, 2)
        own_k = own_k.unflatten(0, (bucket.count, n)).transpose(1, 2)
        pairs = scale * (own_q @ own_k.mT)  # [count, H, m, n]
        mask = adjacency.bucket_mask(number)
        parts.append(pairs[:, :, mask].transpose(1, 2).flatten(0, 1))
        if bucket.edges is not None:
            edges.append(bucket.edges.flatten())
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts).index_select(0, torch.cat(edges).argsort())


def dropout_mask(num_edges: int, heads: int, dropout: float, seed: Tensor) -> Tensor:
    """Which weights dropout keeps, bool [E, H] by CSR slot.

    Counter-based, so that every backend drops the same weights in forward and backward, in any
    order: the splitmix64 generator (Steele et al., 2014, doi:10.1145/2660193.2660195) at position
    `slot * H + head + 1`, whose upper 24 bits are compared with the probability.
    """
    return is_kept(torch.arange(num_edges * heads, device=seed.device), dropout, seed).view(
        num_edges, heads
    )


def is_kept(position: Tensor, dropout: float, seed: Tensor) -> Tensor:
    """Which elements dropout keeps, bool, by their positions in `dropout_mask`."""
    counter = position + 1
    z = seed + counter * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _logical_shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _logical_shift(z, 27)) * _signed(0x94D049BB133111EB)
    z = z ^ _logical_shift(z, 31)
    return _logical_shift(z, 40) >= round(dropout * 2**24)


def drop_weights(
    weights: Tensor, dropout: float, seed: Tensor | None, positions: Tensor | None = None
) -> Tensor:
    """Drop weights [E, H] by slot and scale the others by 1 / (1 - dropout), given a seed.

    With `positions` [E], weights [E, 1] have these positions in the mask.
    """
    if seed is None:
        return weights
    if positions is not None:
        mask = is_kept(positions.long(), dropout, seed).unsqueeze(1)
    else:
        mask = dropout_mask(weights.shape[0], weights.shape[1], dropout, seed)
    weights = weights * mask
    return weights / (1 - dropout) if dropout < 1 else weights


def finite_nodes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Replace the nodes of x [N, H, D] that are not finite by zeros; return which are not, [N].

    A dense product multiplies the values of absent edges by zero, and zero times NaN is NaN. A
    backend whose products cover several samples so keeps NaN and infinity within theirs.
    """
    invalid = ~x.isfinite().flatten(1).all(1)
    return x.masked_fill(invalid[:, None, None], 0), invalid


def public_output(result: Result) -> Output:
    """Return the result of a backend as that of a public function."""
    out, weights = result
    return out if weights is None else (out, weights)


def keep_scale(dropout: float) -> float:
    """The factor of the elements that dropout keeps; 0 if it keeps none."""
    return 1 / (1 - dropout) if dropout < 1 else 0.0


def _logical_shift(z: Tensor, bits: int) -> Tensor:
    """Shift int64 right and fill with zeros; torch's `>>` repeats the sign bit."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned integer; products wrap around as for uint64."""
    return value - (1 << 64)


_log = logging.getLogger("graphformer")


def notice(message: str) -> None:
    """Log lines at INFO; fall back to stderr if nothing handles that level."""
    _log.info("%s", message)
    if not (_log.isEnabledFor(logging.INFO) and _log.hasHandlers()):
        print("\n".join(f"graphformer: {line}" for line in message.split("\n")), file=sys.stderr)
