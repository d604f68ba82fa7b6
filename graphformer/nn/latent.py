"""Attention over compressed keys and values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.rotary import Rotation, rotate
from graphformer.ops import attention


class LatentAttention(nn.Module):
    """Multi-head latent attention: keys and values of all heads come from one narrow vector a node.

    Positions act on a part of their own, one key for all heads. With a cache the narrow vectors
    are what is kept: the maps to keys and values move to the queries and outputs, and all heads
    attend to one key of width `rank + rotary_dim` a node.

    Args:
        dim: width C.
        num_heads: H.
        rank: width of the compressed keys and values.
        head_dim: width of each head without positions; also of its values.
        rotary_dim: width of the part with positions.
        query_rank: width of compressed queries; None does not compress them.
        norm_eps: of the normalisation (RMS) of what is compressed.
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
        query_rank: int | None = None,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.rotary_dim = num_heads, head_dim, rotary_dim
        self.scale, self.dropout = (head_dim + rotary_dim) ** -0.5, dropout
        width = num_heads * (head_dim + rotary_dim)
        self.q: nn.Module = nn.Linear(dim, width, bias=False)
        if query_rank is not None:
            self.q = nn.Sequential(
                nn.Linear(dim, query_rank, bias=False),
                nn.RMSNorm(query_rank, eps=norm_eps),
                nn.Linear(query_rank, width, bias=False),
            )
        self.down = nn.Linear(dim, rank + rotary_dim, bias=False)
        self.norm = nn.RMSNorm(rank, eps=norm_eps)
        self.up = nn.Linear(rank, 2 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor | None = None,
        *,
        rotary: Rotation | None = None,
        cache: KVCache | None = None,
        **options: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend, as `MultiHeadAttention`; options are `bias`, `edge_weight` and so on."""
        options |= {"scale": self.scale, "dropout": self.dropout if self.training else 0.0}
        rank = self.up.in_features
        q = self.q(x).unflatten(-1, (self.num_heads, -1))
        latent, turning = self.down(x if source is None else source).split(
            [rank, self.rotary_dim], -1
        )
        latent, turning = self.norm(latent).unsqueeze(1), turning.unsqueeze(1)
        q, turned = q.split([self.head_dim, self.rotary_dim], dim=-1)
        if rotary is not None:
            turned, turning = rotate(turned, rotary), rotate(turning, rotary)
        to_key, to_value = self.up.weight.view(self.num_heads, -1, rank).chunk(2, dim=1)
        if cache is None:
            k, v = self.up(latent).view(len(latent), self.num_heads, -1).chunk(2, dim=-1)
            k = torch.cat([k, turning.expand(-1, self.num_heads, -1)], dim=-1)
            result = attention(torch.cat([q, turned], dim=-1), k, v, adjacency, **options)
        else:
            q = torch.cat([torch.einsum("nhd,hdr->nhr", q, to_key), turned], dim=-1)
            k = torch.cat([latent, turning], dim=-1)
            result = cache.attend(q, k, latent, adjacency, **options)
        out, weights = result if isinstance(result, tuple) else (result, None)
        if cache is not None:
            out = torch.einsum("nhr,hdr->nhd", out, to_value)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)
