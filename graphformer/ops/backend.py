"""The interface of backend modules, by which the dispatch calls them.

Each backend is a module with some of four functions. Their arguments are those of the public
functions after the checks of `graphformer.ops.checks`, with nothing left to fill in.
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.ops.common import AttentionOptions, Result
from graphformer.ops.offset_bias import OffsetBias

BackendName = Literal["auto", "reference", "sdpa", "cpu", "scatter", "triton", "flex"]
FunctionName = Literal[
    "attention", "additive_attention", "gatv2_attention", "edge_feature_attention"
]


class Backend(Protocol):
    """A backend of dot-product attention."""

    APPLIES_OFFSET_BIAS: bool
    """Whether it is an `OffsetBiasBackend`; others are passed the value on each edge."""
    HAS_CUSTOM_OPERATORS: bool
    """Whether it runs custom operators, which do not support `torch.func` and forward mode."""

    SUPPORTS_HEAD_EDGES: bool
    """Whether it reads the heads of `HeadEdges`; others are passed a bias of minus infinity."""

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        adjacency: Adjacency,
        *,
        scale: float,
        **options: Unpack[AttentionOptions],
    ) -> Result:
        """Return the output and the weights for logits scale * (q_i . k_j)."""


class OffsetBiasBackend(Backend, Protocol):
    """A backend that computes an `OffsetBias` where it needs it."""

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        adjacency: Adjacency,
        *,
        scale: float,
        offset_bias: OffsetBias | None = None,
        **options: Unpack[AttentionOptions],
    ) -> Result:
        """Return the output and the weights for logits scale * (q_i . k_j) + offset_bias_ij."""


class EdgeBackend(Backend, Protocol):
    """A backend that also has the attention functions of graph networks."""

    def additive_attention(
        self,
        target_score: Tensor,
        source_score: Tensor,
        v: Tensor,
        adjacency: Adjacency,
        *,
        negative_slope: float,
        edge_score: Tensor | None = None,
        **options: Unpack[AttentionOptions],
    ) -> Result:
        """Return the output and the weights for GAT's logits."""

    def gatv2_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        weight: Tensor,
        adjacency: Adjacency,
        *,
        negative_slope: float,
        edge_key: Tensor | None = None,
        **options: Unpack[AttentionOptions],
    ) -> Result:
        """Return the output and the weights for GATv2's logits."""

    def edge_feature_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        edge_attr: Tensor,
        key_map: Tensor,
        value_map: Tensor,
        adjacency: Adjacency,
        *,
        scale: float,
        **options: Unpack[AttentionOptions],
    ) -> Result:
        """Return the output and the weights for keys and values with projected edge features."""
