"""Attention over CSR on CUDA, fused in Triton kernels: forward by target, backward by both ends.

Memory is O(N H D + E): no tensor has the size E x H x D, and only returned ones E x H. There are no
atomics, so the same inputs and seed give the same bits for the same tile sizes. Tile sizes are
tuned once, on the first large graph, and stored in Triton's cache on disk (TRITON_CACHE_DIR).
Triton is imported on the first call.

Dropout is the counter-based splitmix64 mask of all backends (`graphformer.ops.common`), not
Triton's Philox, so that every backend drops the same weights for the same seed.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.ops.common import AttentionOptions, Result
from graphformer.ops.fused.custom_op import call, call_with_features, make_operator
from graphformer.ops.fused.operands import ADDITIVE, DOT, GATV2, Driver

__all__ = [
    "APPLIES_OFFSET_BIAS",
    "HAS_CUSTOM_OPERATORS",
    "SUPPORTS_HEAD_EDGES",
    "additive_attention",
    "attention",
    "edge_feature_attention",
    "gatv2_attention",
]

APPLIES_OFFSET_BIAS = False
HAS_CUSTOM_OPERATORS = True
SUPPORTS_HEAD_EDGES = False


def load_driver() -> Driver:
    """Import the module that launches the kernels.

    Raises:
        ImportError: when Triton is not installed or fails to load.
    """
    try:
        from graphformer.ops.triton import driver
    except ImportError as error:
        raise ImportError(
            f"backend: got 'triton', expected an installed triton ({error}); run "
            "`pip install triton`, or choose 'scatter'"
        ) from error
    return driver


attend = make_operator("triton", load_driver)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    **options: Unpack[AttentionOptions],
) -> Result:
    """logit_ij = scale * (q_i . k_j)."""
    out, _, weights = call(attend, q, k, v, adjacency, kind=DOT, scale=scale, **options)
    return out, weights


def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    negative_slope: float,
    edge_score: Tensor | None = None,
    **options: Unpack[AttentionOptions],
) -> Result:
    """logit_ij = leaky_relu(target_score_i + source_score_j + edge_score_ij).

    These are the scores of `gatv2_attention` at width 1 with a weight of 1.
    """
    out, _, weights = call(
        attend, target_score.unsqueeze(2), source_score.unsqueeze(2), v, adjacency,
        kind=ADDITIVE, edge=None if edge_score is None else edge_score.unsqueeze(2),
        slope=negative_slope, **options,
    )  # fmt: skip
    return out, weights


def gatv2_attention(
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
    """logit_ij = weight . leaky_relu(q_i + k_j + edge_key_ij)."""
    out, _, weights = call(
        attend, q, k, v, adjacency,
        kind=GATV2, vector=weight, edge=edge_key, slope=negative_slope, **options,
    )  # fmt: skip
    return out, weights


def edge_feature_attention(
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
    """Attention with keys k_j + key_map e_ij and values v_j + value_map e_ij."""
    return call_with_features(
        attend, q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
