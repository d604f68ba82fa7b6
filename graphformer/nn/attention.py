"""Attention modules: projections around the attention functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.rotary import Rotation, rotate
from graphformer.ops import OffsetBias, additive_attention, attention, gatv2_attention
from graphformer.ops.select import Backend
from graphformer.patterns import AdjacencyLike, resolve_single


class MultiHeadAttention(nn.Module):
    """Multi-head attention over an adjacency, of nodes to themselves or to a source.

    On the complete graph it equals `torch.nn.MultiheadAttention`, whose `in_proj` is `qkv` here.

    Args:
        dim: width C of the nodes.
        num_heads: H.
        num_kv_heads: Hkv, of keys and values; must divide `num_heads`, which it is by default.
        head_dim: width D of a head; `dim / num_heads` by default, which must then be whole.
        source_dim: width of the sources, if they are others than the targets; `dim` by default.
            Of another width they have maps of their own, `q` and `kv` instead of `qkv`.
        bias: whether the maps to queries, keys and values have one.
        out_bias: whether the map of the output has one; as `bias` by default.
        qk_norm: the normalisation of each head's queries and keys, built as `qk_norm(head_dim)`.
        scale: multiplies the logits; 1 / sqrt(D) by default.
        dropout: probability of dropping an attention weight in training.

    Source: Vaswani et al., 2017, section 3.2.2; grouped heads: Ainslie et al., 2023; normalised
    queries and keys: Dehghani et al., 2023, section 2.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        source_dim: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(
                f"num_heads must divide dim unless head_dim is given, got {num_heads} and {dim}"
            )
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads, got {num_kv_heads} and {num_heads}"
            )
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.heads = [num_heads, num_kv_heads, num_kv_heads]
        self.scale, self.dropout = scale, dropout
        width, kv_width = num_heads * self.head_dim, 2 * num_kv_heads * self.head_dim
        if source_dim is None or source_dim == dim:
            self.qkv = nn.Linear(dim, width + kv_width, bias=bias)
        else:
            self.q = nn.Linear(dim, width, bias=bias)
            self.kv = nn.Linear(source_dim, kv_width, bias=bias)
        self.q_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.k_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.out = nn.Linear(width, dim, bias=bias if out_bias is None else out_bias)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        rotary: Rotation | None = None,
        bias: Tensor | OffsetBias | None = None,
        edge_weight: Tensor | None = None,
        backend: Backend = "auto",
        return_weights: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: the targets, [M, C]; or as in PyG the pair of sources and targets.
            adjacency: M targets by N sources; or an edge_index, or a pattern over one sample.
            source: the sources, [N, C]; `x` itself by default.
            rotary: turns the queries and keys of `x`; from `Rotary`.
            bias, edge_weight, backend, return_weights: as in `gf.attention`.
            cache: keys and values of nodes that came before, to which these are added; it knows
                who attends to whom from then on.

        Returns:
            [M, C]; with `return_weights` the pair of it and the weights [E, H].
        """
        x, source, adjacency = _ends(x, adjacency, source)
        k: Tensor | None = None
        v: Tensor | None = None
        if cache is not None and cache.closed:
            q = self._queries(x)
        else:
            q, k, v = self._project(x, source, rotary)
        attend: Callable[..., Any] = attention if cache is None else cache.attend
        result = attend(
            q,
            k,
            v,
            adjacency,
            bias=bias,
            edge_weight=edge_weight,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
            backend=backend,
            return_weights=return_weights,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    def _project(
        self, x: Tensor, source: Tensor | None, rotary: Rotation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [M, H, D], keys and values [N, Hkv, D]."""
        if source is not None:
            k, v = self._keys_and_values(source)
            return self._queries(x), k, v
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is None and rotary is not None:  # turn queries and keys in one go
            qk, v = qkv.split([self.heads[0] + self.heads[1], self.heads[2]], dim=-2)
            q, k = rotate(qk, rotary).split(self.heads[:2], dim=-2)
            return q, k, v
        q, k, v = qkv.split(self.heads, dim=-2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return (q, k, v) if rotary is None else (rotate(q, rotary), rotate(k, rotary), v)

    def _queries(self, x: Tensor) -> Tensor:
        """Queries of targets that are not the sources, [M, H, D]."""
        width = self.heads[0] * self.head_dim
        q = self.q(x) if hasattr(self, "q") else _linear(x, self.qkv, slice(width))
        q = q.unflatten(-1, (-1, self.head_dim))
        return q if self.q_norm is None else self.q_norm(q)

    def _keys_and_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of sources that are not the targets, [N, Hkv, D]."""
        width = self.heads[0] * self.head_dim
        own = hasattr(self, "kv")
        kv = self.kv(source) if own else _linear(source, self.qkv, slice(width, None))
        k, v = kv.unflatten(-1, (-1, self.head_dim)).split(self.heads[1:], dim=-2)
        return k if self.k_norm is None else self.k_norm(k), v


def _ends(
    x: Tensor | tuple[Tensor, Tensor], adjacency: AdjacencyLike, source: Tensor | None
) -> tuple[Tensor, Tensor | None, Adjacency]:
    """Targets, sources if they are others, and the adjacency, of what PyG code may pass too."""
    if isinstance(x, tuple):
        source, x = x
    num_nodes = len(x), len(x if source is None else source)
    return x, source, resolve_single(adjacency, num_nodes=num_nodes, device=x.device)


def _linear(x: Tensor, linear: nn.Linear, rows: slice) -> Tensor:
    """Some rows of a linear map."""
    if type(linear) is not nn.Linear:  # such as one with an adapter
        return linear(x)[..., rows]
    return F.linear(x, linear.weight[rows], None if linear.bias is None else linear.bias[rows])


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
        edge_dim: width F of features of edges that the scores hear; None for none.

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
        edge_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.heads = (num_heads, out_dim)
        self.concat, self.v2 = concat, v2
        self.negative_slope, self.dropout = negative_slope, dropout
        width = num_heads * out_dim
        self.source = nn.Linear(in_dim, width, bias=bias and v2)
        self.target = nn.Linear(in_dim, width, bias=bias) if v2 else None
        self.edge = nn.Linear(edge_dim, width, bias=False) if edge_dim is not None else None
        # GAT scores target, source and edge apart, GATv2 their sum.
        scores = 1 if v2 else 2 if edge_dim is None else 3
        self.score = nn.Parameter(torch.empty(scores, num_heads, out_dim))
        self.bias = nn.Parameter(torch.zeros(width if concat else out_dim)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all maps by Glorot's rule, as the papers do; biases start at zero."""
        for linear in (self.source, self.target, self.edge):
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
        x: Tensor | tuple[Tensor, Tensor],
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: Backend = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: the targets, [M, C]; or as in PyG the pair of sources and targets.
            adjacency: M targets by N sources; or an edge_index, or a pattern over one sample.
            source: the sources, [N, C]; `x` itself by default.
            edge_attr: features of the edges, [E, F], for a module with `edge_dim`.
            bias, edge_weight, backend, return_weights: as in `gf.additive_attention`.

        Returns:
            [M, H * out_dim], or [M, out_dim] of averaged heads; with `return_weights` the pair
            of it and the weights [E, H].

        Raises ValueError for features of edges without `edge_dim`, or the other way round.
        """
        x, source, adjacency = _ends(x, adjacency, source)
        if (edge_attr is None) != (self.edge is None):
            raise ValueError(
                "edge_attr goes with a module that has edge_dim, and only with such a one: got "
                f"edge_attr={'None' if edge_attr is None else 'a tensor'} and "
                f"edge_dim={None if self.edge is None else self.edge.in_features}"
            )
        options: dict[str, Any] = {
            "negative_slope": self.negative_slope,
            "dropout": self.dropout if self.training else 0.0,
            "bias": bias,
            "edge_weight": edge_weight,
            "backend": backend,
            "return_weights": return_weights,
        }
        v = self.source(x if source is None else source).unflatten(1, self.heads)
        if self.target is not None:
            q = self.target(x).unflatten(1, self.heads)
            key = None if self.edge is None else self.edge(edge_attr).unflatten(1, self.heads)
            result = gatv2_attention(q, v, v, self.score[0], adjacency, edge_key=key, **options)
        else:
            q = v if source is None else self.source(x).unflatten(1, self.heads)
            # Autocast leaves products with parameters in float32.
            target_score = (q * self.score[0]).sum(-1).to(v.dtype)
            source_score = (v * self.score[1]).sum(-1).to(v.dtype)
            score = None if edge_attr is None else self._edge_score(edge_attr).to(v.dtype)
            result = additive_attention(
                target_score, source_score, v, adjacency, edge_score=score, **options
            )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = out.flatten(1) if self.concat else out.mean(1)
        out = out if self.bias is None else out + self.bias
        return out if weights is None else (out, weights)

    def _edge_score(self, edge_attr: Tensor) -> Tensor:
        """a_e . W_e e_ij, [E, H], without the mapped features [E, H, D]."""
        assert self.edge is not None
        weight = self.edge.weight.unflatten(0, self.heads)
        return edge_attr @ torch.einsum("hdf,hd->fh", weight, self.score[2])
