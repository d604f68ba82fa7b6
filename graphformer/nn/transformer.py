"""The Transformer: a stack of blocks over nodes and an adjacency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.deprecated import renamed_keywords
from graphformer.nn.attention import MultiHeadAttention, check_nodes
from graphformer.nn.block import (
    ActivationCheckpointing,
    Block,
    BlockLayout,
    DecoderBlock,
    recomputed,
)
from graphformer.nn.dropout import with_drop_path
from graphformer.nn.feedforward import FeedForward
from graphformer.nn.options import LayerOptions, TransformerOptions, check_options
from graphformer.patterns import AdjacencyLike, resolve


class TransformerArguments(TypedDict, total=False):
    """Keyword arguments of the constructor of `Transformer`."""

    hidden_dim: int | None
    num_kv_heads: int | None
    norm: Callable[[int], nn.Module]
    norm_first: bool
    activation: Callable[[], nn.Module]
    bias: bool
    dropout: float
    attention_dropout: float
    drop_path: float
    attention: Callable[[int], nn.Module] | None
    mlp: Callable[[int], nn.Module] | None
    position_encoding: nn.Module | Sequence[nn.Module] | None
    source_dim: int | None
    cross_attention: Callable[[int], nn.Module] | None
    gated_cross_attention: bool
    layout: BlockLayout
    post_norm: Callable[[int], nn.Module] | None
    activation_checkpointing: ActivationCheckpointing


class Transformer(nn.Module):
    """A stack of blocks, independent of the modality: nodes and an adjacency are its only inputs.

    The sizes define the usual blocks; `attention` and `mlp` replace parts of them.

    Args:
        dim: width C of the nodes.
        depth: number of blocks.
        num_heads: H; must divide `dim`.
        hidden_dim: width of the feed-forward nets; 4 C by default.
        num_kv_heads: Hkv; `num_heads` by default.
        norm: the normalisation, built as `norm(dim)`.
        norm_first: pre-norm, with a final norm after the stack; else post-norm.
        activation: the nonlinearity of the feed-forward nets.
        bias: whether the linear maps have a bias.
        dropout: probability of dropping a unit before it is added to the residual stream.
        attention_dropout: probability of dropping an attention weight.
        drop_path: probability of leaving out the last block for a sample, see `with_drop_path`;
            that of block i of L is i / L of it.
        attention: builds the attention of block i, `attention(i)`; by default
            `MultiHeadAttention` of the sizes above.
        mlp: builds the feed-forward net of block i, `mlp(i)`; `FeedForward` by default.
        position_encoding: positions that act within attention, `Rotary`, `ALiBi` or
            `RelativeBias`; all blocks share it, unless there is one per block.
        source_dim: width of the sources of cross-attention in every block, as in a decoder; None
            for blocks without cross-attention.
        cross_attention: builds the cross-attention of block i, `cross_attention(i)`; by default
            `MultiHeadAttention` of the sizes above.
        gated_cross_attention: whether each block has a gate that is closed at first, see
            `DecoderBlock`.
        layout: how the parts of a block are connected, see `Block`.
        post_norm: builds what is applied to the outputs of both parts of a "sandwich"; `norm` by
            default.
        activation_checkpointing: what is not stored in training, but recomputed in the backward
            pass: True for each block but its input; "attention" for the attention of each block;
            an integer k for every k-th block, the first included; False for nothing.

    Raises:
        ValueError: when `activation_checkpointing` is none of these, `drop_path` is not from 0 to
            below 1, or cross-attention is gated but absent.

    Source: Vaswani et al., 2017, "Attention is all you need"; recomputation: Chen et al., 2016, and
    of attention only: Korthikanti et al., 2022.
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
        drop_path: float = 0.0,
        attention: Callable[[int], nn.Module] | None = None,
        mlp: Callable[[int], nn.Module] | None = None,
        position_encoding: nn.Module | Sequence[nn.Module] | None = None,
        source_dim: int | None = None,
        cross_attention: Callable[[int], nn.Module] | None = None,
        gated_cross_attention: bool = False,
        layout: BlockLayout = "sequential",
        post_norm: Callable[[int], nn.Module] | None = None,
        activation_checkpointing: ActivationCheckpointing = False,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path: got {drop_path}, expected from 0 to below 1")
        if gated_cross_attention and source_dim is None:
            raise ValueError(
                "gated_cross_attention: got True without source_dim, expected the width of the "
                "sources; set source_dim"
            )
        self.drop_path = drop_path

        def multi_head(source_dim: int | None = None) -> MultiHeadAttention:
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
            own = multi_head() if attention is None else attention(number)
            net = feed_forward() if mlp is None else mlp(number)
            settings: dict[str, Any] = {"norm_first": norm_first, "dropout": dropout}
            if source_dim is None:
                norm2 = None if layout == "parallel_shared_norm" else norm(dim)
                after = post_norm or norm
                post = (after(dim), after(dim)) if layout == "sandwich" else None
                return Block(own, net, norm(dim), norm2, layout=layout, post_norms=post, **settings)
            across = multi_head(source_dim) if cross_attention is None else cross_attention(number)
            norms = norm(dim), norm(dim), norm(dim)
            settings["gated"] = gated_cross_attention
            return DecoderBlock(own, across, net, *norms, **settings)

        self.blocks = nn.ModuleList(block(number) for number in range(depth))
        self.norm = norm(dim) if norm_first else nn.Identity()
        if isinstance(position_encoding, Sequence):
            position_encoding = nn.ModuleList(position_encoding)
        self.relative = position_encoding  # the name in state dicts
        self.dim, self.source_dim = dim, source_dim
        self.activation_checkpointing = activation_checkpointing

    @property
    def activation_checkpointing(self) -> ActivationCheckpointing:
        """What is recomputed in the backward pass; it may be changed at any time."""
        return self._activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, value: ActivationCheckpointing) -> None:
        is_stride = isinstance(value, int) and value >= 1
        if not (isinstance(value, bool) or value == "attention" or is_stride):
            raise ValueError(
                f"activation_checkpointing: got {value!r}, expected True, False, 'attention', or k "
                "of 1 or more for every k-th block"
            )
        self._activation_checkpointing = value
        for block in self.blocks:
            block.recompute_attention = value == "attention"  # type: ignore[assignment]

    @property
    def position_encoding(self) -> nn.Module | None:
        """Positions that act within attention, a `ModuleList` if per block; None without any."""
        return self.relative

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return norm(block_L(... block_1(x))), [N, C].

        Args:
            x: nodes of all samples, packed end to end, [N, C].
            adjacency: N x N, an `edge_index` [2, E], a pattern over one sample, or one of these per
                block.
            positions: positions of the nodes for `position_encoding`, [N] or [N, axes]; by
                default the index of each node in its sample.
            options: `source` and `source_adjacency` for cross-attention, one `cache` per block,
                `lengths` of the samples for `drop_path`, and the options of the attention of every
                block; see `TransformerOptions`.

        Raises:
            TypeError: when an option is unknown.
            ValueError: when x is not [N, C]; when the number of adjacencies is not the depth; when
                a source is given without `source_dim` or absent with it; when an option is given
                that `position_encoding` computes.
        """
        for block, inputs, block_options in self._block_inputs(x, adjacency, positions, options):
            x = block(x, *inputs, **block_options)
        return self.norm(x)

    def _block_inputs(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None,
        options: TransformerOptions,
    ) -> list[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]]:
        """Return each block with its positional inputs after x and its options."""
        check_options(options)
        check_nodes(x, "x")
        per_block = resolve(adjacency, num_nodes=x.shape[0], device=x.device)
        if isinstance(per_block, Adjacency):
            per_block = [per_block] * len(self.blocks)
        if len(per_block) != len(self.blocks):
            raise ValueError(
                f"adjacency: got {len(per_block)} adjacencies, expected one, or one for each of "
                f"the {len(self.blocks)} blocks"
            )
        shared: dict[str, Any] = {**options}
        cache, lengths = (shared.pop(name, None) for name in ("cache", "lengths"))
        source, source_adjacency = (shared.pop(n, None) for n in ("source", "source_adjacency"))
        across = self._cross_inputs(source, source_adjacency)
        encoded = self.encoded_positions(positions, per_block)
        for each in encoded[:1]:
            self._check_not_given(each, shared)
        return [
            (
                self._with_drop_path(recomputed(block, self._is_recomputed(i)), i, lengths),
                (edges, *across),
                {**shared, **own} if cache is None else {**shared, **own, "cache": cache[i]},
            )
            for i, (block, edges, own) in enumerate(
                zip(self.blocks, per_block, encoded, strict=True)
            )
        ]

    def encoded_positions(
        self, positions: Tensor | None, per_block: Sequence[Adjacency]
    ) -> list[LayerOptions]:
        """Return the options that the position encoding of each block computes, each once."""
        encodings = self.position_encoding
        if encodings is None:
            return [{} for _ in per_block]
        count = len(per_block)
        modules = [*encodings] if isinstance(encodings, nn.ModuleList) else [encodings] * count
        results: dict[nn.Module, LayerOptions] = {}
        for module, edges in zip(modules, per_block, strict=True):
            if module not in results:
                results[module] = module(positions, edges)
        return [results[module] for module in modules]

    def _with_drop_path(
        self, block: Callable[..., Tensor], number: int, lengths: Sequence[int] | None
    ) -> Callable[..., Tensor]:
        """Return a block, in training one that is left out for some samples."""
        if not (self.training and self.drop_path):
            return block
        return with_drop_path(block, self.drop_path * (number + 1) / len(self.blocks), lengths)

    def _is_recomputed(self, number: int) -> bool:
        """Whether the activations of a block are recomputed in the backward pass."""
        every = self.activation_checkpointing
        return every != "attention" and every > 0 and number % every == 0

    def _check_not_given(self, encoded: LayerOptions, options: dict[str, Any]) -> None:
        for name in encoded:
            if options.get(name) is not None:
                kind = type(self.position_encoding).__name__
                raise ValueError(
                    f"{name}: got a value, expected none, for the Transformer's {kind} computes "
                    "it; leave it out, or build the Transformer without position_encoding"
                )

    def _cross_inputs(
        self, source: Tensor | None, adjacency: Adjacency | None
    ) -> tuple[Tensor, Adjacency] | tuple[()]:
        """Return the inputs of a block's cross-attention, none for blocks without it."""
        if self.source_dim is None:
            if source is not None:
                raise ValueError(
                    "source: got a tensor, expected None; build the Transformer with source_dim"
                )
            return ()
        if source is None or adjacency is None:
            raise ValueError(
                "source, source_adjacency: got None, expected both for a Transformer with "
                f"source_dim={self.source_dim}"
            )
        return source, adjacency
