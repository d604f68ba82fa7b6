"""Multi-head latent attention: keys and values compressed to one vector per node."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.nn.attention import check_nodes
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.linear import weight_of
from graphformer.nn.options import DotProductOptions, Rotation, check_rotations
from graphformer.nn.positions.rotary import rotate
from graphformer.ops import OffsetBias, attention
from graphformer.ops.backend import BackendName


class LatentAttention(nn.Module):
    """Multi-head latent attention: keys and values of all heads are maps of one narrow vector.

    Rotary positions act on a separate part of queries and keys, whose key all heads share. With a
    cache, the narrow vectors are stored instead of keys and values: the maps to keys and values
    are applied to queries and outputs, and all heads attend to one key of width
    `rank + rotary_dim` per node.

    Args:
        dim: width C.
        num_heads: H.
        rank: width r of the compressed keys and values.
        head_dim: width D of each head without positions.
        rotary_dim: width R of the part with positions.
        value_dim: width of each head's values; D by default.
        query_rank: width of compressed queries; None for uncompressed ones.
        norm: builds the normalisation of compressed vectors, `norm(rank)`; RMS norm by default.
        norm_eps: epsilon of the default norms.
        scale: factor of the logits; 1 / sqrt(D + R) by default.
        adjacent_pairs: whether dimensions 2 i and 2 i + 1 of the part with positions are rotated
            together, as DeepSeek stores them, instead of i and i + R / 2.
        dropout: probability of dropping an attention weight in training.

    Source: DeepSeek-AI, 2024 (DeepSeek-V2), section 2.1.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        rank: int,
        head_dim: int,
        rotary_dim: int,
        value_dim: int | None = None,
        query_rank: int | None = None,
        norm: Callable[[int], nn.Module] | None = None,
        norm_eps: float = 1e-6,
        scale: float | None = None,
        adjacent_pairs: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        norm = partial(nn.RMSNorm, eps=norm_eps) if norm is None else norm
        value_dim = head_dim if value_dim is None else value_dim
        self.num_heads, self.head_dim, self.rotary_dim = num_heads, head_dim, rotary_dim
        self.value_dim, self.adjacent_pairs = value_dim, adjacent_pairs
        self.scale = (head_dim + rotary_dim) ** -0.5 if scale is None else scale
        self.dropout = dropout
        width = num_heads * (head_dim + rotary_dim)
        self.q: nn.Module = nn.Linear(dim, width, bias=False)
        if query_rank is not None:
            self.q = nn.Sequential(
                nn.Linear(dim, query_rank, bias=False),
                norm(query_rank),
                nn.Linear(query_rank, width, bias=False),
            )
        self.down = nn.Linear(dim, rank + rotary_dim, bias=False)
        self.norm = norm(rank)
        self.up = nn.Linear(rank, num_heads * (head_dim + value_dim), bias=False)
        self.out = nn.Linear(num_heads * value_dim, dim, bias=False)

    @overload
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        return_weights: Literal[False] = False,
        **options: Unpack[DotProductOptions],
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        return_weights: Literal[True],
        **options: Unpack[DotProductOptions],
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        rotary: Rotation | None = None,
        source_rotary: Rotation | None = None,
        bias: Tensor | OffsetBias | None = None,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the attention output of targets x [M, C]; arguments as in `MultiHeadAttention`.

        Returns:
            [M, C]; with `return_weights` also the weights, [E, H].
        """
        check_nodes(x, "x")
        check_rotations(source, rotary, source_rotary)
        options: dict[str, Any] = {
            "bias": bias,
            "edge_weight": edge_weight,
            "scale": self.scale,
            "dropout": self.dropout if self.training else 0.0,
            "backend": backend,
            "return_weights": return_weights,
        }
        rank = self.up.in_features
        # Queries: a part q without positions [M, H, D] and a part q_r with them [M, H, R].
        q = self.q(x).unflatten(-1, (self.num_heads, -1))
        q, q_r = q.split([self.head_dim, self.rotary_dim], dim=-1)
        # Compressed keys and values c [N, 1, r], and the key part with positions k_r [N, 1, R].
        c, k_r = self.down(x if source is None else source).split([rank, self.rotary_dim], -1)
        c, k_r = self.norm(c).unsqueeze(1), k_r.unsqueeze(1)
        if self.adjacent_pairs:
            q_r, k_r = _halves(q_r), _halves(k_r)
        if rotary is not None:
            q_r = rotate(q_r, rotary)
            k_r = rotate(k_r, rotary if source_rotary is None else source_rotary)
        if cache is None:
            # k = W_k c, [N, H, D], and v = W_v c, [N, H, Dv].
            kv = self.up(c).view(len(c), self.num_heads, -1)
            k, v = kv.split([self.head_dim, self.value_dim], dim=-1)
            k = torch.cat([k, k_r.expand(-1, self.num_heads, -1)], dim=-1)
            result = attention(torch.cat([q, q_r], dim=-1), k, v, adjacency, **options)
            out, weights = result if isinstance(result, tuple) else (result, None)
        else:
            # q . W_k c = (W_k^T q) . c, and sum_j a_j W_v c_j = W_v sum_j a_j c_j.
            up = weight_of(self.up).view(self.num_heads, -1, rank)
            w_k, w_v = up.split([self.head_dim, self.value_dim], dim=1)
            q = torch.cat([torch.einsum("nhd,hdr->nhr", q, w_k), q_r], dim=-1)
            result = cache.attend(q, torch.cat([c, k_r], dim=-1), c, adjacency, **options)
            out, weights = result if isinstance(result, tuple) else (result, None)
            out = torch.einsum("nhr,hdr->nhd", out, w_v)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)

    if TYPE_CHECKING:
        __call__ = forward


def _halves(x: Tensor) -> Tensor:
    """Reorder dimensions (2 i, 2 i + 1) of x [N, H, R] to (i, i + R / 2)."""
    return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
