"""Attention modules: linear maps around the attention functions of `graphformer.ops`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.linear import linear_rows, weight_of
from graphformer.nn.options import (
    DotProductOptions,
    GraphAttentionOptions,
    Rotation,
    check_rotations,
)
from graphformer.nn.positions.rotary import rotate
from graphformer.ops import OffsetBias, additive_attention, attention, gatv2_attention
from graphformer.ops.backend import BackendName
from graphformer.patterns import AdjacencyLike, resolve_single

TensorOrPair = Tensor | tuple[Tensor, Tensor]


class MultiHeadAttention(nn.Module):
    """Multi-head attention over an adjacency, of nodes to themselves or to sources.

    On the complete graph it equals `torch.nn.MultiheadAttention`, whose `in_proj` is `qkv` here.

    Args:
        dim: width C of the nodes.
        num_heads: number of query heads H.
        num_kv_heads: number of key and value heads Hkv, a divisor of `num_heads`; H by default.
        head_dim: width D of a head; C / H by default.
        source_dim: width of the sources; C by default. With another width, the module has the
            maps `q` and `kv` instead of `qkv`.
        bias: whether the maps to queries, keys and values have a bias.
        out_bias: whether the output map has a bias; as `bias` by default.
        qk_norm: builds the normalisation of each head's queries and keys, `qk_norm(head_dim)`.
        scale: factor of the logits; 1 / sqrt(D) by default.
        softcap: bounds the logits x to c tanh(x / c), as in Gemma 2; None for no bound.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: when `num_heads` does not divide `dim` and no `head_dim` is given, or when
            `num_kv_heads` does not divide `num_heads`.

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
        softcap: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(
                f"num_heads: got {num_heads}, expected a divisor of dim {dim}; change one of them "
                "or pass head_dim"
            )
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads: got {num_kv_heads}, expected a divisor of num_heads {num_heads}"
            )
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.heads = [num_heads, num_kv_heads, num_kv_heads]
        self.scale, self.softcap, self.dropout = scale, softcap, dropout
        width, kv_width = num_heads * self.head_dim, 2 * num_kv_heads * self.head_dim
        if source_dim is None or source_dim == dim:
            self.qkv = nn.Linear(dim, width + kv_width, bias=bias)
        else:
            self.q = nn.Linear(dim, width, bias=bias)
            self.kv = nn.Linear(source_dim, kv_width, bias=bias)
        self.q_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.k_norm = None if qk_norm is None else qk_norm(self.head_dim)
        self.out = nn.Linear(width, dim, bias=bias if out_bias is None else out_bias)

    @overload
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        return_weights: Literal[False] = False,
        **options: Unpack[DotProductOptions],
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        return_weights: Literal[True],
        **options: Unpack[DotProductOptions],
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        rotary: Rotation | None = None,
        source_rotary: Rotation | None = None,
        bias: Tensor | OffsetBias | None = None,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
        cache: KVCache | None = None,
    ) -> TensorOrPair:
        """Return out(softmax(s q k^T + b) v) over the edges of the adjacency.

        Args:
            x: targets, [M, C]; or the pair (sources, targets), as in PyG.
            adjacency: M targets by N sources; or an `edge_index`, or a pattern over one sample.
            source: sources, [N, C]; `x` by default.
            rotary: rotates the queries and keys of `x`; from `Rotary`.
            source_rotary: rotates the keys of `source`, if it is given.
            bias, edge_weight, backend, return_weights: as in `graphformer.attention`.
            cache: keys and values of earlier nodes, to which those of `x` are added. From its
                second call on, the cache defines the edges and `adjacency` is ignored.

        Returns:
            [M, C]; with `return_weights` also the weights, [E, H].

        Raises:
            ValueError: when x is not [M, C], or only one of `rotary` and `source_rotary` is given
                with a source.
        """
        x, source, adjacency = split_inputs(x, adjacency, source)
        check_rotations(source, rotary, source_rotary)
        k: Tensor | None = None
        v: Tensor | None = None
        if cache is not None and cache.is_frozen:
            q = self._queries(x, rotary)
        elif source is not None:
            q = self._queries(x, rotary)
            k, v = self._keys_and_values(source, source_rotary)
        else:
            q, k, v = self._queries_keys_and_values(x, rotary)
        attend: Callable[..., Any] = attention if cache is None else cache.attend
        result = attend(
            q,
            k,
            v,
            adjacency,
            bias=bias,
            edge_weight=edge_weight,
            scale=self.scale,
            softcap=self.softcap,
            dropout=self.dropout if self.training else 0.0,
            backend=backend,
            return_weights=return_weights,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    if TYPE_CHECKING:
        __call__ = forward

    def _queries_keys_and_values(
        self, x: Tensor, rotary: Rotation | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [N, H, D], keys and values [N, Hkv, D] of nodes that attend to nodes."""
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is None and rotary is not None:  # rotates queries and keys in one operation
            qk, v = qkv.split([self.heads[0] + self.heads[1], self.heads[2]], dim=-2)
            q, k = rotate(qk, rotary).split(self.heads[:2], dim=-2)
            return q, k, v
        q, k, v = qkv.split(self.heads, dim=-2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return (q, k, v) if rotary is None else (rotate(q, rotary), rotate(k, rotary), v)

    def _queries(self, x: Tensor, rotary: Rotation | None) -> Tensor:
        """Return queries [M, H, D] of targets that differ from the sources."""
        width = self.heads[0] * self.head_dim
        q = self.q(x) if hasattr(self, "q") else linear_rows(x, self.qkv, slice(width))
        q = q.unflatten(-1, (-1, self.head_dim))
        q = q if self.q_norm is None else self.q_norm(q)
        return q if rotary is None else rotate(q, rotary)

    def _keys_and_values(self, source: Tensor, rotary: Rotation | None) -> tuple[Tensor, Tensor]:
        """Return keys and values [N, Hkv, D] of sources that differ from the targets."""
        if hasattr(self, "kv"):
            kv = self.kv(source)
        else:
            kv = linear_rows(source, self.qkv, slice(self.heads[0] * self.head_dim, None))
        k, v = kv.unflatten(-1, (-1, self.head_dim)).split(self.heads[1:], dim=-2)
        k = k if self.k_norm is None else self.k_norm(k)
        return k if rotary is None else rotate(k, rotary), v


def split_inputs(
    x: TensorOrPair, adjacency: AdjacencyLike, source: Tensor | None
) -> tuple[Tensor, Tensor | None, Adjacency]:
    """Return targets, sources (None: the targets) and adjacency, also from PyG's forms of them.

    PyG passes sources and targets as the pair `x`, and the adjacency as an `edge_index`.

    Raises:
        ValueError: when targets or sources are not [nodes, width].
    """
    if isinstance(x, tuple):
        source, x = x
    check_nodes(x, "x")
    if source is not None:
        check_nodes(source, "source")
    if source is None and isinstance(adjacency, Adjacency):
        source = adjacency.gather_sources(x)
    num_nodes = x.shape[0], (x if source is None else source).shape[0]  # len() breaks symbols
    return x, source, resolve_single(adjacency, num_nodes=num_nodes, device=x.device)


def check_nodes(x: Tensor, name: str) -> None:
    """Check that a tensor is one of nodes, [N, C].

    Raises:
        ValueError: when it has another number of dimensions.
    """
    if x.ndim != 2:
        raise ValueError(
            f"{name}: got shape {list(x.shape)}, expected [N, C]; pack the nodes of all samples "
            "end to end, without padding"
        )


class GraphAttention(nn.Module):
    """The attention of GAT, or with `v2` that of GATv2, over an adjacency.

    Equals PyG's `GATConv` and `GATv2Conv` with the same weights, but adds no self-loops: pass
    `adjacency.with_self_loops()` for a model that has them.

    Args:
        in_dim: width of the input nodes.
        out_dim: width D of each head.
        num_heads: H.
        concat: whether the heads are concatenated, to [M, H * D], or averaged.
        v2: whether the logits are GATv2's a . leaky_relu(q_i + k_j), or GAT's
            leaky_relu(a_t . q_i + a_s . q_j).
        negative_slope: of the LeakyReLU.
        dropout: probability of dropping an attention weight in training.
        bias: whether the output (and, with `v2`, each map) has a bias.
        edge_dim: width F of edge features that are part of the logits; None for none.

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
        # GAT scores target, source and edge separately; GATv2 scores their sum.
        scores = 1 if v2 else 2 if edge_dim is None else 3
        self.score = nn.Parameter(torch.empty(scores, num_heads, out_dim))
        self.bias = nn.Parameter(torch.zeros(width if concat else out_dim)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all maps from Glorot's uniform distribution, as the papers do; biases are zero."""
        for linear in (self.source, self.target, self.edge):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        bound = math.sqrt(6 / sum(self.heads))
        nn.init.uniform_(self.score, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @overload
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        return_weights: Literal[False] = False,
        **options: Unpack[GraphAttentionOptions],
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        return_weights: Literal[True],
        **options: Unpack[GraphAttentionOptions],
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self,
        x: TensorOrPair,
        adjacency: AdjacencyLike,
        source: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> TensorOrPair:
        """Return the heads of each target, concatenated or averaged.

        Args:
            x: targets, [M, C]; or the pair (sources, targets), as in PyG.
            adjacency: M targets by N sources; or an `edge_index`, or a pattern over one sample.
            source: sources, [N, C]; `x` by default.
            edge_attr: features of the edges, [E, F], for a module with `edge_dim`.
            bias, edge_weight, backend, return_weights: as in `graphformer.additive_attention`.

        Returns:
            [M, H * D], or [M, D] of averaged heads; with `return_weights` also the weights,
            [E, H].

        Raises:
            ValueError: when `edge_attr` is given to a module without `edge_dim`, or absent for
                one with it.
        """
        x, source, adjacency = split_inputs(x, adjacency, source)
        if (edge_attr is None) != (self.edge is None):
            raise ValueError(
                f"edge_attr: got {'None' if edge_attr is None else 'a tensor'} and "
                f"edge_dim={None if self.edge is None else self.edge.in_features}, expected both "
                "or neither"
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
            # Under autocast, products with parameters are float32.
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

    if TYPE_CHECKING:
        __call__ = forward

    def _edge_score(self, edge_attr: Tensor) -> Tensor:
        """Return a_e . W_e e_ij, [E, H], without computing W_e e_ij, [E, H, D]."""
        assert self.edge is not None
        weight = weight_of(self.edge).unflatten(0, self.heads)
        return edge_attr @ torch.einsum("hdf,hd->fh", weight, self.score[2])
