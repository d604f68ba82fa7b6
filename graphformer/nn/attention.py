"""Attention modules: projections around the attention functions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.ops import additive_attention, attention, gatv2_attention
from graphformer.ops.dispatch import Backend


class MultiHeadAttention(nn.Module):
    """Multi-head attention over an adjacency, of nodes to themselves or to a source.

    On the complete graph it equals `torch.nn.MultiheadAttention`, whose `in_proj` is `qkv` here.

    Args:
        dim: width C of the nodes.
        num_heads: H; must divide `dim`.
        num_kv_heads: Hkv, of keys and values; must divide `num_heads`, which it is by default.
        bias: whether the projections have one.
        dropout: probability of dropping an attention weight in training.

    Source: Vaswani et al., 2017, section 3.2.2; grouped heads: Ainslie et al., 2023.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads, got {num_kv_heads} and {num_heads}"
            )
        self.head_dim = dim // num_heads
        self.heads = [num_heads, num_kv_heads, num_kv_heads]
        self.dropout = dropout
        self.qkv = nn.Linear(dim, sum(self.heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: Backend = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: the targets, [M, C].
            adjacency: M targets by N sources.
            source: the sources, [N, C]; `x` itself by default.
            bias, edge_weight, backend, return_weights: as in `gf.attention`.

        Returns:
            [M, C]; with `return_weights` the pair of it and the weights [E, H].
        """
        q, k, v = self._project(x, source)
        result = attention(
            q,
            k,
            v,
            adjacency,
            bias=bias,
            edge_weight=edge_weight,
            dropout=self.dropout if self.training else 0.0,
            backend=backend,
            return_weights=return_weights,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    def _project(self, x: Tensor, source: Tensor | None) -> tuple[Tensor, ...]:
        """Queries [M, H, D], keys and values [N, Hkv, D]."""
        if source is None:
            return self.qkv(x).unflatten(-1, (-1, self.head_dim)).split(self.heads, dim=-2)
        width = self.heads[0] * self.head_dim
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x, weight[:width], None if bias is None else bias[:width])
        kv = F.linear(source, weight[width:], None if bias is None else bias[width:])
        heads = (-1, self.head_dim)
        return q.unflatten(-1, heads), *kv.unflatten(-1, heads).split(self.heads[1:], dim=-2)


class GraphAttention(nn.Module):
    """The attention of GAT, or with `v2` of GATv2, over an adjacency.

    Equals PyG's `GATConv` and `GATv2Conv` with the same weights, but adds no self-loops: give it
    `adjacency.with_self_loops()` where the model is to have them.

    Args:
        in_dim: width of the nodes that come in.
        out_dim: width of each head.
        num_heads: H.
        concat: whether the heads are concatenated, to [M, H * out_dim], or averaged.
        v2: score with GATv2's a . leaky_relu(q_i + k_j) instead of GAT's
            leaky_relu(a_t . q_i + a_s . q_j).
        negative_slope: of the LeakyReLU.
        dropout: probability of dropping an attention weight in training.
        bias: whether to add one to the output (and, with `v2`, to the maps).

    Source: Veličković et al., 2018; Brody et al., 2022.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_heads: int = 1,
        *,
        concat: bool = True,
        v2: bool = False,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads = (num_heads, out_dim)
        self.concat, self.v2 = concat, v2
        self.negative_slope, self.dropout = negative_slope, dropout
        width = num_heads * out_dim
        self.source = nn.Linear(in_dim, width, bias=bias and v2)
        self.target = nn.Linear(in_dim, width, bias=bias) if v2 else None
        # GAT scores source and target apart, GATv2 their sum.
        self.score = nn.Parameter(torch.empty(1 if v2 else 2, num_heads, out_dim))
        self.bias = nn.Parameter(torch.zeros(width if concat else out_dim)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all maps by Glorot's rule, as the papers do; biases start at zero."""
        for linear in (self.source, self.target):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        bound = math.sqrt(6 / sum(self.heads))
        nn.init.uniform_(self.score, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        backend: Backend = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: the targets, [M, C].
            adjacency: M targets by N sources.
            source: the sources, [N, C]; `x` itself by default.
            backend, return_weights: as in `gf.additive_attention`.

        Returns:
            [M, H * out_dim], or [M, out_dim] of averaged heads; with `return_weights` the pair
            of it and the weights [E, H].
        """
        options: dict[str, Any] = {
            "negative_slope": self.negative_slope,
            "dropout": self.dropout if self.training else 0.0,
            "backend": backend,
            "return_weights": return_weights,
        }
        v = self.source(x if source is None else source).unflatten(1, self.heads)
        if self.target is not None:
            q = self.target(x).unflatten(1, self.heads)
            result = gatv2_attention(q, v, v, self.score[0], adjacency, **options)
        else:
            q = v if source is None else self.source(x).unflatten(1, self.heads)
            # Autocast leaves products with parameters in float32.
            target_score = (q * self.score[0]).sum(-1).to(v.dtype)
            source_score = (v * self.score[1]).sum(-1).to(v.dtype)
            result = additive_attention(target_score, source_score, v, adjacency, **options)
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = out.flatten(1) if self.concat else out.mean(1)
        out = out if self.bias is None else out + self.bias
        return out if weights is None else (out, weights)
