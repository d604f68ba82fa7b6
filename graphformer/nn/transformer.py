"""The Transformer: a stack of blocks over nodes and an adjacency, of whatever modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.nn.attention import MultiHeadAttention
from graphformer.nn.block import Block, DecoderBlock
from graphformer.nn.feedforward import FeedForward
from graphformer.patterns import AdjacencyLike, resolve


class Transformer(nn.Module):
    """A stack of blocks; it never knows the modality, only nodes and who attends to whom.

    The numbers make the usual blocks; `attention` and `mlp` put other parts into them.

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
        attention: makes the attention of block number i, `attention(i)`; by default
            `MultiHeadAttention` of the numbers above.
        mlp: makes the feed-forward net of block number i, `mlp(i)`; `FeedForward` by default.
        position_encoding: positions that act within attention, `Rotary`, `ALiBi` or
            `RelativeBias`; all blocks share it.
        source_dim: width of a source that every block also attends to, as a decoder does to its
            encoder's output; None for blocks without one.
        activation_checkpointing: whether to store only the input of each block in training, and
            recompute the rest in the backward pass.

    Source: Vaswani et al., 2017, "Attention is all you need".
    """

    @renamed_keywords(relative="position_encoding", checkpoint="activation_checkpointing")
    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        hidden_dim: int | None = None,
        num_kv_heads: int | None = None,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        norm_first: bool = True,
        activation: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        attention: Callable[[int], nn.Module] | None = None,
        mlp: Callable[[int], nn.Module] | None = None,
        position_encoding: nn.Module | None = None,
        source_dim: int | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()

        def heads(source_dim: int | None = None) -> MultiHeadAttention:
            return MultiHeadAttention(
                dim,
                num_heads,
                num_kv_heads=num_kv_heads,
                source_dim=source_dim,
                bias=bias,
                dropout=attention_dropout,
            )

        def feed_forward() -> FeedForward:
            return FeedForward(dim, hidden_dim, activation=activation, dropout=dropout, bias=bias)

        def block(number: int) -> nn.Module:
            own = heads() if attention is None else attention(number)
            net = feed_forward() if mlp is None else mlp(number)
            settings: dict[str, Any] = {"norm_first": norm_first, "dropout": dropout}
            if source_dim is None:
                return Block(own, net, norm(dim), norm(dim), **settings)
            norms = norm(dim), norm(dim), norm(dim)
            return DecoderBlock(own, heads(source_dim), net, *norms, **settings)

        self.blocks = nn.ModuleList(block(number) for number in range(depth))
        self.norm = norm(dim) if norm_first else nn.Identity()
        self.relative = position_encoding  # the name in state dicts
        self.dim, self.source_dim = dim, source_dim
        self.activation_checkpointing = activation_checkpointing

    @property
    def position_encoding(self) -> nn.Module | None:
        """The positions that act within attention."""
        return self.relative

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None = None,
        *,
        source: Tensor | None = None,
        source_adjacency: Adjacency | None = None,
        cache: Sequence[Any] | None = None,
        **options: Any,
    ) -> Tensor:
        """Send x [N, C] through the blocks; [N, C].

        Args:
            x: the nodes of all samples, packed end to end.
            adjacency: N x N, an edge_index, a pattern over one sample, or one of these per block.
            positions: where the nodes are, [N] or [N, axes], for positions that act within
                attention; by default the place of each in its sample.
            source: what every block also attends to, [S, `source_dim`].
            source_adjacency: N x S.
            cache: what each block keeps of nodes that came before, see `KVCache`.
            options: go to the attention of every block (`bias`, `edge_weight`, `backend`).

        Raises ValueError for a sequence of adjacencies of another length than the depth, for a
        source without blocks that attend to one or the other way round, and for a `bias` beside
        one that comes from positions.
        """
        per_block = resolve(adjacency, num_nodes=len(x), device=x.device)
        if isinstance(per_block, Adjacency):
            per_block = [per_block] * len(self.blocks)
        if len(per_block) != len(self.blocks):
            raise ValueError(
                f"adjacency must be one, or one a block: got {len(per_block)} for "
                f"{len(self.blocks)} blocks"
            )
        if self.position_encoding is not None and len(per_block):
            options |= self._placed(self.position_encoding(positions, per_block[0]), options)
        across = self._across(source, source_adjacency)
        for number, (block, edges) in enumerate(zip(self.blocks, per_block, strict=True)):
            if cache is not None:
                options["cache"] = cache[number]
            if self.activation_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, edges, *across, use_reentrant=False, **options)
            else:
                x = block(x, edges, *across, **options)
        return self.norm(x)

    def _placed(self, placed: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """The options that positions make, which must not be there already."""
        for name in placed:
            if options.get(name) is not None:
                kind = type(self.position_encoding).__name__
                raise ValueError(
                    f"{name} is given, but the Transformer's {kind} makes one: leave it out, or "
                    "build the Transformer without position_encoding"
                )
        return placed

    def _across(self, source: Tensor | None, adjacency: Adjacency | None) -> tuple[Any, ...]:
        if self.source_dim is None and source is None:
            return ()
        if self.source_dim is None:
            raise ValueError("source is given, but the Transformer was built without source_dim")
        if source is None or adjacency is None:
            raise ValueError("a Transformer with source_dim needs source and source_adjacency")
        return source, adjacency
