"""The Transformer: a stack of blocks over nodes and an adjacency, of whatever modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.nn.attention import MultiHeadAttention
from graphformer.nn.block import Block, FeedForward


class Transformer(nn.Module):
    """A stack of blocks; it never knows the modality, only nodes and who attends to whom.

    Args:
        dim: width C of the nodes.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; 4 C by default.
        num_kv_heads: Hkv; `num_heads` by default.
        norm: the normalisation, built as `norm(dim)`.
        norm_first: pre-norm, with a last norm after the stack; else post-norm.
        activation: the nonlinearity of the feed-forward nets.
        bias: whether the linear maps have one.
        dropout: probability of dropping a unit before it joins the residual stream.
        attention_dropout: probability of dropping an attention weight.

    Source: Vaswani et al., 2017, "Attention is all you need".
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        hidden_dim: int | None = None,
        num_kv_heads: int | None = None,
        norm: type[nn.Module] = nn.LayerNorm,
        norm_first: bool = True,
        activation: type[nn.Module] = nn.GELU,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()

        def block() -> Block:
            heads = MultiHeadAttention(
                dim, num_heads, num_kv_heads=num_kv_heads, bias=bias, dropout=attention_dropout
            )
            mlp = FeedForward(dim, hidden_dim, activation=activation, dropout=dropout, bias=bias)
            return Block(heads, mlp, norm(dim), norm(dim), norm_first=norm_first, dropout=dropout)

        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = norm(dim) if norm_first else nn.Identity()

    def forward(
        self, x: Tensor, adjacency: Adjacency | Sequence[Adjacency], **options: Any
    ) -> Tensor:
        """Send x [N, C] through the blocks; [N, C].

        Args:
            x: the nodes of all samples, packed end to end.
            adjacency: N x N, or one such for each block.
            options: go to every attention (`bias`, `edge_weight`, `backend`).

        Raises ValueError for a sequence of adjacencies of another length than the depth.
        """
        if isinstance(adjacency, Adjacency):
            adjacency = [adjacency] * len(self.blocks)
        if len(adjacency) != len(self.blocks):
            raise ValueError(
                f"adjacency must be one, or one a block: got {len(adjacency)} for "
                f"{len(self.blocks)} blocks"
            )
        for block, edges in zip(self.blocks, adjacency, strict=True):
            x = block(x, edges, **options)
        return self.norm(x)
