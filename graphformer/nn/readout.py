"""From nodes to answers about graphs, nodes, edges and links."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from graphformer.adjacency import complete
from graphformer.nn.attention import MultiHeadAttention
from graphformer.nn.head import Head
from graphformer.ops import attention
from graphformer.patterns import lengths
from graphformer.patterns.fields import require_tensor

Readout = Literal["mean", "sum", "max", "last", "attention", "set"]
Pairs = Literal["dot", "mlp"]


class AttentionPool(nn.Module):
    """The nodes of each sample, weighted by a softmax of learned scores: [N, C] -> [B, C].

    Attention of one query a sample, over the complete bipartite graph of samples and nodes.
    Equals PyG's `AttentionalAggregation` with a linear gate; an empty sample gives zeros.

    Source: Li et al., 2016, "Gated graph sequence neural networks", equation 7.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would change nothing

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """x [N, C] of samples packed end to end -> [B, C]."""
        query = x.new_ones(len(lengths), 1, 1)
        members = complete([1] * len(lengths), lengths)
        score = self.score(x).to(x.dtype).unsqueeze(1)
        pooled = attention(query, score, x.unsqueeze(1), members, scale=1.0)
        assert isinstance(pooled, Tensor)
        return pooled.squeeze(1)


class SetPool(nn.Module):
    """Learned seeds attend to the nodes of their sample: [N, C] -> [B, seeds * C].

    With h = LayerNorm(S + Attention(S, ReLU(x W))) of the seeds S, gives
    LayerNorm(h + ReLU(h W')). Equals PyG's `PoolingByMultiheadAttention`.

    Args:
        dim: width C.
        num_heads: H.
        seeds: how many vectors describe a sample.

    Source: Lee et al., 2019, "Set transformer", equations 6, 7 and 11 (PMA).
    """

    def __init__(self, dim: int, num_heads: int, *, seeds: int = 1) -> None:
        super().__init__()
        self.seeds = nn.Parameter(torch.empty(seeds, dim))
        nn.init.xavier_uniform_(self.seeds)
        self.features = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.attention = MultiHeadAttention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """x [N, C] of samples packed end to end -> [B, seeds * C]."""
        samples, count = len(lengths), len(self.seeds)
        seeds = self.seeds.repeat(samples, 1)
        members = complete([count] * samples, lengths)
        h = self.norm1(seeds + self.attention(seeds, members, self.features(x)))
        return self.norm2(h + self.mlp(h)).reshape(samples, -1)


class PooledHead(nn.Module):
    """A linear map of each sample's nodes, pooled by a module.

    Args:
        pool: called as `pool(x, lengths)`, [N, C] -> [B, C'].
        dim: width C' of what it gives.
        out_dim: number of classes or values K.
    """

    def __init__(self, pool: nn.Module, dim: int, out_dim: int) -> None:
        super().__init__()
        self.pool = pool
        self.linear = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x [N, C] of a batch -> [B, K]."""
        return self.linear(self.pool(x, lengths(batch)))


class PairHead(nn.Module):
    """Answers about pairs of nodes: whether they are linked, or what class their edge has.

    The pairs are `batch.edge_label_index` [2, P], or the batch's edges where it has none.

    Args:
        dim: width C of the nodes.
        out_dim: number of classes or values K.
        how: "dot" for the product x_source . x_target, which needs K = 1 and learns nothing (Kipf
            and Welling, 2016, "Variational graph auto-encoders"), or "mlp" for a net with one
            hidden layer on [x_source, x_target].
    """

    def __init__(self, dim: int, out_dim: int, how: Pairs) -> None:
        super().__init__()
        if how not in ("dot", "mlp"):
            raise ValueError(f"pairs must be 'dot' or 'mlp', got {how!r}")
        if how == "dot" and out_dim != 1:
            raise ValueError(f"pairs='dot' gives one number a pair, not {out_dim}: take 'mlp'")
        self.mlp = None
        if how == "mlp":
            self.mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, out_dim))

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x [N, C] of a batch -> [P, K]."""
        pairs = getattr(batch, "edge_label_index", None)
        if pairs is None:
            pairs = require_tensor(batch, "edge_index", "the model answers for its edges")
        source, target = x[pairs[0]], x[pairs[1]]
        if self.mlp is None:
            return (source * target).sum(-1, keepdim=True)
        return self.mlp(torch.cat([source, target], dim=-1))


def graph_head(
    dim: int,
    out_dim: int,
    *,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    num_heads: int = 1,
) -> nn.Module:
    """The head that answers for nodes, for samples if `pool` is given, or for `pairs` of nodes.

    Args:
        dim: width C of the nodes.
        out_dim: number of classes or values K.
        pool: how nodes become samples.
        pairs: how pairs of nodes are scored, as in `PairHead`.
        num_heads: of the set pooling.

    Returns:
        A module from x [N, C] and the batch to [N, K], [B, K] or [P, K].

    Raises ValueError for an unknown `pool` or `pairs`, and where both are given.
    """
    if pool is not None and pool not in get_args(Readout):
        raise ValueError(f"pool must be one of {', '.join(get_args(Readout))}, got {pool!r}")
    if pairs is not None:
        if pool is not None:
            raise ValueError(f"pool and pairs exclude each other, got {pool!r} and {pairs!r}")
        return PairHead(dim, out_dim, pairs)
    if pool == "attention":
        return PooledHead(AttentionPool(dim), dim, out_dim)
    if pool == "set":
        return PooledHead(SetPool(dim, num_heads), dim, out_dim)
    return Head(dim, out_dim, pool=pool)
