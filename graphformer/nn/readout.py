"""Output heads of graph models: pooling by attention, and heads for nodes, graphs and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from graphformer.adjacency import complete
from graphformer.nn.attention import MultiHeadAttention
from graphformer.nn.head import Head
from graphformer.ops import attention
from graphformer.patterns import lengths as sample_lengths
from graphformer.patterns.fields import require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike
    from graphformer.patterns.fields import Layout

Readout = Literal["mean", "sum", "max", "last", "attention", "set"]
Pairs = Literal["dot", "mlp"]


class AttentionPool(nn.Module):
    """The mean of each sample's nodes, weighted by a softmax of learned scores: [N, C] -> [B, C].

    Attention of one query per sample, over the complete bipartite graph of samples and nodes.
    Equals PyG's `AttentionalAggregation` with a linear gate; an empty sample gives zeros.

    Args:
        dim: width C.

    Source: Li et al., 2016, "Gated graph sequence neural networks", equation 7.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # the softmax is invariant to a bias

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Return sum_i softmax_i(w . x_i) x_i of each sample, [B, C] of x [N, C].

        Args:
            x: nodes of all samples, packed end to end.
            lengths: number of nodes of each sample, B ints.
        """
        query = x.new_ones(len(lengths), 1, 1)
        adjacency = complete([1] * len(lengths), lengths)
        score = self.score(x).to(x.dtype).unsqueeze(1)
        pooled = attention(query, score, x.unsqueeze(1), adjacency, scale=1.0)
        assert isinstance(pooled, Tensor)
        return pooled.squeeze(1)


class SetPool(nn.Module):
    """Attention of learned seeds to the nodes of each sample: [N, C] -> [B, seeds * C].

    With h = LayerNorm(S + Attention(S, ReLU(x W))) of the seeds S, the output is
    LayerNorm(h + ReLU(h W')). Equals PyG's `PoolingByMultiheadAttention`.

    Args:
        dim: width C.
        num_heads: H.
        seeds: number of output vectors of a sample.

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
        """Return the outputs of each sample's seeds, concatenated, [B, seeds * C] of x [N, C].

        Args:
            x: nodes of all samples, packed end to end.
            lengths: number of nodes of each sample, B ints.
        """
        samples, count = len(lengths), len(self.seeds)
        seeds = self.seeds.repeat(samples, 1)
        adjacency = complete([count] * samples, lengths)
        h = self.norm1(seeds + self.attention(seeds, adjacency, self.features(x)))
        return self.norm2(h + self.mlp(h)).reshape(samples, -1)


class PooledHead(nn.Module):
    """A linear map of the nodes of each sample, pooled by a module.

    Args:
        pool: called as `pool(x, lengths)`, [N, C] -> [B, C'].
        dim: width C' of the pooled nodes.
        out_dim: number of classes or values K.
    """

    def __init__(self, pool: nn.Module, dim: int, out_dim: int) -> None:
        super().__init__()
        self.pool = pool
        self.linear = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor, batch: BatchLike | Layout) -> Tensor:
        """Return [B, K] of x [N, C]; of the batch, only lengths are read."""
        return self.linear(self.pool(x, sample_lengths(batch)))


class PairHead(nn.Module):
    """Logits of pairs of nodes, as for link prediction or the classification of edges.

    The pairs are `batch.edge_label_index` [2, P], or `batch.edge_index` if it is absent.

    Args:
        dim: width C of the nodes.
        out_dim: number of classes or values K.
        how: "dot" for the product x_source . x_target, for K = 1 and without parameters (Kipf and
            Welling, 2016, "Variational graph auto-encoders"), or "mlp" for a net with one hidden
            layer on [x_source, x_target].

    Raises:
        ValueError: when `how` is unknown, or "dot" is asked for with K > 1.
    """

    def __init__(self, dim: int, out_dim: int, how: Pairs) -> None:
        super().__init__()
        if how not in ("dot", "mlp"):
            raise ValueError(f"pairs: got {how!r}, expected 'dot' or 'mlp'")
        if how == "dot" and out_dim != 1:
            raise ValueError(
                f"pairs: got 'dot' with {out_dim} values per pair, expected 1; choose 'mlp'"
            )
        self.mlp = None
        if how == "mlp":
            self.mlp = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, out_dim))

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return the logits [P, K] of the pairs in a batch with nodes x [N, C]."""
        pairs = getattr(batch, "edge_label_index", None)
        if pairs is None:
            pairs = require_tensor(batch, "edge_index", "the model has an output per edge")
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
    """Return an output head per node, per sample with `pool`, or per pair of nodes with `pairs`.

    Args:
        dim: width C of the nodes.
        out_dim: number of classes or values K.
        pool: how the nodes of a sample are pooled.
        pairs: how pairs of nodes are scored, as in `PairHead`.
        num_heads: of the pooling "set".

    Returns:
        A module from x [N, C] and the batch to [N, K], [B, K] or [P, K].

    Raises:
        ValueError: when `pool` or `pairs` is unknown, or both are given.
    """
    if pool is not None and pool not in get_args(Readout):
        raise ValueError(f"pool: got {pool!r}, expected one of {', '.join(get_args(Readout))}")
    if pairs is not None:
        if pool is not None:
            raise ValueError(f"pool, pairs: got {pool!r} and {pairs!r}, expected only one of them")
        return PairHead(dim, out_dim, pairs)
    if pool == "attention":
        return PooledHead(AttentionPool(dim), dim, out_dim)
    if pool == "set":
        return PooledHead(SetPool(dim, num_heads), dim, out_dim)
    return Head(dim, out_dim, pool=pool)
