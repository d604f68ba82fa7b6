"""Options that travel from a model's forward pass down to the attention of each block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from torch import Tensor

from graphformer.ops import OffsetBias
from graphformer.ops.backend import BackendName
from graphformer.options import suggestion

if TYPE_CHECKING:
    from graphformer.adjacency import Adjacency
    from graphformer.nn.kv_cache import KVCache

Rotation: TypeAlias = tuple[Tensor, Tensor]
"""Cosines and sines of rotary angles, each [N, 1, W]; the second half of W repeats the first."""
BlockCache: TypeAlias = "KVCache | Sequence[KVCache | None]"
"""The cache of a block; of a `DecoderBlock`, those of its self-attention and cross-attention."""


class DotProductOptions(TypedDict, total=False):
    """Keyword arguments of dot-product attention modules, but for `return_weights`."""

    rotary: Rotation | None
    source_rotary: Rotation | None
    bias: Tensor | OffsetBias | None
    edge_weight: Tensor | None
    backend: BackendName
    cache: KVCache | None


class GraphAttentionOptions(TypedDict, total=False):
    """Keyword arguments of `GraphAttention`, but for `return_weights`."""

    edge_attr: Tensor | None
    bias: Tensor | None
    edge_weight: Tensor | None
    backend: BackendName


class LayerOptions(TypedDict, total=False):
    """Options of the attention in all blocks; absent ones have the default of the module.

    E edges are those of the adjacency, in its order. An option that an attention module does not
    have as a keyword argument is refused by it with TypeError.
    """

    bias: Tensor | OffsetBias | None
    """Added to the logits, [E] or [E, H]; or a rule."""
    edge_weight: Tensor | None
    """Multiplies the logits, [E] or [E, H]."""
    edge_attr: Tensor
    """Features of the edges, [E, F]; of `EdgeFeatureAttention` and `GraphAttention`."""
    rotary: Rotation | None
    """Rotates queries and keys; from `Rotary`."""
    backend: BackendName
    """As of `graphformer.attention`."""


class BlockOptions(LayerOptions, total=False):
    """Options of the attention in one block."""

    cache: BlockCache
    """Keys and values of earlier nodes."""


class TransformerOptions(LayerOptions, total=False):
    """Options of the forward pass of a `Transformer`, and of a model that passes them on."""

    local_edge_index: Tensor
    """Edges of the message passing of `HybridBlock`, `edge_index` [2, E']."""
    local_edge_attr: Tensor
    """Features of the `local_edge_index`, [E', F']."""
    source: Tensor | None
    """Nodes that every block attends to by cross-attention, [S, C']."""
    source_adjacency: Adjacency | None
    """The adjacency of the cross-attention, N x S."""
    cache: Sequence[BlockCache] | None
    """Keys and values of earlier nodes, one cache per block."""
    lengths: Sequence[int] | None
    """Number of nodes of each sample, for `drop_path`; by default all nodes are one sample."""


# Includes the keys of the base classes.
_TRANSFORMER_OPTIONS = frozenset(TransformerOptions.__annotations__)


def check_options(options: Iterable[str]) -> None:
    """Check the names of options before a forward pass.

    Raises:
        TypeError: when a name is not a key of `TransformerOptions`.
    """
    for name in options:
        if name not in _TRANSFORMER_OPTIONS:
            choice = suggestion(name, _TRANSFORMER_OPTIONS)
            raise TypeError(f"forward() got an unexpected option {name!r}{choice}")


def check_rotations(
    source: Tensor | None, rotary: Rotation | None, source_rotary: Rotation | None
) -> None:
    """Check that both queries and keys are rotated, or neither.

    Raises:
        ValueError: when only one of the rotations is given with a source, or `source_rotary`
            without a source.
    """
    if source is None and source_rotary is not None:
        raise ValueError("source_rotary: got a rotation, expected None without source; use rotary")
    if source is not None and (rotary is None) != (source_rotary is None):
        missing, given = "rotary", "source_rotary"
        if source_rotary is None:
            missing, given = given, missing
        raise ValueError(
            f"{missing}: got None with {given}, expected both or neither for attention to a source"
        )
