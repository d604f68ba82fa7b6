"""Transformer blocks: attention and a feed-forward net, each with its residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.dropout import Dropout
from graphformer.nn.kv_cache import KVCache


class Block(nn.Module):
    """An encoder block, pre-norm or post-norm.

    Equals `torch.nn.TransformerEncoderLayer` on the complete graph.

    Args:
        attention: called as `attention(x, adjacency, **options)`, [N, C] -> [N, C].
        mlp: [N, C] -> [N, C].
        norm1, norm2: the normalisations of the two halves.
        norm_first: pre-norm, x + f(norm(x)); else post-norm, norm(x + f(x)).
        dropout: probability of dropping a unit before it joins the residual stream.

    Source: Vaswani et al., 2017, section 3.1; pre-norm: Xiong et al., 2020.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        *,
        norm_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.norm1, self.norm2 = norm1, norm2
        self.norm_first = norm_first
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Any) -> Tensor:
        """x [N, C] -> [N, C]; options go to the attention."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), adjacency, **options))
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x, adjacency, **options)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class DecoderBlock(nn.Module):
    """A block that also attends to a source, such as an encoder's output.

    Equals `torch.nn.TransformerDecoderLayer` with a causal and a complete adjacency.

    Args:
        attention: of the targets to themselves.
        cross_attention: of the targets to the source, which is its third argument.
        mlp: [M, C] -> [M, C].
        norm1, norm2, norm3: the normalisations of the three parts.
        norm_first: pre-norm or post-norm.
        dropout: probability of dropping a unit before it joins the residual stream.

    Source: Vaswani et al., 2017, section 3.1.
    """

    def __init__(
        self,
        attention: nn.Module,
        cross_attention: nn.Module,
        mlp: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        norm3: nn.Module,
        *,
        norm_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.cross_attention, self.mlp = attention, cross_attention, mlp
        self.norm1, self.norm2, self.norm3 = norm1, norm2, norm3
        self.norm_first = norm_first
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        source: Tensor,
        source_adjacency: Adjacency,
        *,
        cache: Sequence[KVCache | None] = (None, None),
        **options: Any,
    ) -> Tensor:
        """x [M, C], source [N, C'], adjacencies M x M and M x N -> [M, C].

        Options go to the attention of the targets to themselves; the caches are its own and the
        cross-attention's.
        """
        own, across = ({} if kept is None else {"cache": kept} for kept in cache)
        options |= own
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), adjacency, **options))
            h = self.norm2(x)
            x = x + self.dropout(self.cross_attention(h, source_adjacency, source, **across))
            return x + self.dropout(self.mlp(self.norm3(x)))
        x = self.norm1(x + self.dropout(self.attention(x, adjacency, **options)))
        h = self.cross_attention(x, source_adjacency, source, **across)
        x = self.norm2(x + self.dropout(h))
        return self.norm3(x + self.dropout(self.mlp(x)))
