"""Transformer blocks: attention and a feed-forward net, each with a residual connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.nn.dropout import Dropout
from graphformer.nn.kv_cache import KVCache
from graphformer.nn.options import BlockOptions, LayerOptions

BlockLayout = Literal["sequential", "parallel", "parallel_shared_norm", "sandwich"]
"""How the parts of a pre-norm block are connected, see `Block`."""

ActivationCheckpointing = bool | Literal["attention"] | int
"""What `Transformer` recomputes in the backward pass."""


def recomputed(module: nn.Module, condition: bool) -> Callable[..., Tensor]:
    """Return a module; in training, if `condition` holds, one of which only the inputs are stored.

    The backward pass computes the rest again, with the same random numbers.
    """
    if condition and module.training and torch.is_grad_enabled():
        return partial(checkpoint, module, use_reentrant=False)
    return module


class Block(nn.Module):
    """An encoder block, pre-norm or post-norm.

    Equals `torch.nn.TransformerEncoderLayer` on the complete graph.

    Args:
        attention: called as `attention(x, adjacency, **options)`, [N, C] -> [N, C].
        mlp: [N, C] -> [N, C].
        norm1, norm2: normalisation of the attention's and of the feed-forward net's input.
        norm_first: pre-norm, x + f(norm(x)); else post-norm, norm(x + f(x)).
        dropout: probability of dropping a unit before it is added to the residual stream.
        layout: of a pre-norm block. "sequential": x + f(norm1(x)), then x + g(norm2(x)).
            "parallel": x + f(norm1(x)) + g(norm2(x)), as in GPT-NeoX; "parallel_shared_norm" has
            norm1 for both, as PaLM and Phi. "sandwich" also normalises what is added, as Gemma 2.
        post_norms: the two further norms of a "sandwich".

    Attributes:
        recompute_attention: whether only the inputs of the attention are stored in training.

    Raises:
        ValueError: when the layout needs pre-norm or has other norms than those given.

    Source: Vaswani et al., 2017, section 3.1; pre-norm: Xiong et al., 2020; parallel: Wang and
    Komatsuzaki, 2021 (GPT-J).
    """

    recompute_attention = False

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module | None,
        *,
        norm_first: bool = True,
        dropout: float = 0.0,
        layout: BlockLayout = "sequential",
        post_norms: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if layout != "sequential" and not norm_first:
            raise ValueError(f"layout: got {layout!r} for a post-norm block, expected 'sequential'")
        if (norm2 is None) != (layout == "parallel_shared_norm"):
            raise ValueError(f"norm2: got {norm2} for layout {layout!r}, which has another number")
        if (post_norms is None) != (layout != "sandwich"):
            raise ValueError(f"post_norms: got {post_norms} for layout {layout!r}")
        self.attention, self.mlp = attention, mlp
        self.norm1, self.norm2 = norm1, norm2
        if post_norms is not None:
            self.post_norm1, self.post_norm2 = post_norms
        self.norm_first, self.layout = norm_first, layout
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Unpack[BlockOptions]) -> Tensor:
        """Return [N, C] of x [N, C]; the options are those of the attention."""
        if self.layout != "sequential":
            return self._with_layout(x, adjacency, options)
        assert self.norm2 is not None
        attention = recomputed(self.attention, self.recompute_attention)
        if self.norm_first:
            x = x + self.dropout(attention(self.norm1(x), adjacency, **options))
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.dropout(attention(x, adjacency, **options)))
        return self.norm2(x + self.dropout(self.mlp(x)))

    def _with_layout(self, x: Tensor, adjacency: Adjacency, options: BlockOptions) -> Tensor:
        h = self.norm1(x)
        attended = recomputed(self.attention, self.recompute_attention)(h, adjacency, **options)
        if self.layout == "sandwich":
            assert self.norm2 is not None
            x = x + self.dropout(self.post_norm1(attended))
            return x + self.dropout(self.post_norm2(self.mlp(self.norm2(x))))
        h = h if self.norm2 is None else self.norm2(x)
        return x + self.dropout(attended) + self.dropout(self.mlp(h))


class DecoderBlock(nn.Module):
    """A block with cross-attention to sources, such as the output of an encoder.

    Equals `torch.nn.TransformerDecoderLayer` with a causal and a complete adjacency.

    Args:
        attention: self-attention of the targets.
        cross_attention: attention to the sources, `cross_attention(x, adjacency, source)`.
        mlp: [M, C] -> [M, C].
        norm1, norm2, norm3: normalisation of the three inputs, in this order.
        norm_first: pre-norm or post-norm.
        dropout: probability of dropping a unit before it is added to the residual stream.
        gated: whether what the cross-attention adds is multiplied by tanh(gate), a learned number
            that is 0 at first, so that the block ignores the sources. It needs pre-norm.

    Attributes:
        recompute_attention: whether only the inputs of both attentions are stored in training.
        gate: that number, [1]; None if the block is not gated.

    Raises:
        ValueError: when a block is gated and post-norm.

    Source: Vaswani et al., 2017, section 3.1; gates: Alayrac et al., 2022 (Flamingo), section 2.2.
    """

    recompute_attention = False

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
        gated: bool = False,
    ) -> None:
        super().__init__()
        if gated and not norm_first:
            raise ValueError("gated: got True for a post-norm block, expected norm_first=True")
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None
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
        **options: Unpack[LayerOptions],
    ) -> Tensor:
        """Return [M, C] of targets [M, C] and sources [S, C'].

        Args:
            x: targets.
            adjacency: of the self-attention, M x M.
            source: sources.
            source_adjacency: of the cross-attention, M x S.
            cache: those of the self-attention and of the cross-attention.
            options: of the self-attention.
        """
        own, across = ({} if each is None else {"cache": each} for each in cache)
        attention = recomputed(self.attention, self.recompute_attention)
        cross_attention = recomputed(self.cross_attention, self.recompute_attention)
        if self.norm_first:
            x = x + self.dropout(attention(self.norm1(x), adjacency, **own, **options))
            h = cross_attention(self.norm2(x), source_adjacency, source, **across)
            h = h if self.gate is None else self.gate.tanh() * h
            x = x + self.dropout(h)
            return x + self.dropout(self.mlp(self.norm3(x)))
        x = self.norm1(x + self.dropout(attention(x, adjacency, **own, **options)))
        h = cross_attention(x, source_adjacency, source, **across)
        x = self.norm2(x + self.dropout(h))
        return self.norm3(x + self.dropout(self.mlp(x)))
