"""The public functions of additive attention: they check their arguments and call a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from graphformer.adjacency import Adjacency
from graphformer.ops.backend import BackendName
from graphformer.ops.checks import (
    check_edge_aligned,
    check_edge_values,
    check_inputs,
    check_options,
    shapes,
)
from graphformer.ops.common import Output, public_output
from graphformer.ops.select import mask_heads, select_edge_backend


@overload
def additive_attention(
    target_score: Tensor, source_score: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_score: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def additive_attention(
    target_score: Tensor, source_score: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_score: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def additive_attention(
    target_score: Tensor, source_score: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_score: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: bool,
) -> Output: ...  # fmt: skip
def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency | Tensor,
    *,
    negative_slope: float = 0.2,
    edge_score: Tensor | None = None,
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
    dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Additive attention over the edges of an adjacency, as in GAT.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              w_{ij}\, \mathrm{LeakyReLU}(t_i + s_j + e_{ij}) + b_{ij})\, v_j

    Args:
        target_score: t, [M, H].
        source_score: s, [N, H].
        v: values, [N, H, Dv].
        adjacency: M targets by N sources, or an edge_index [2, E].
        negative_slope: of the LeakyReLU.
        edge_score: e, [E] or [E, H].
        bias, edge_weight, dropout, backend, return_weights: as in `attention`.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights [E, H].

    Raises:
        TypeError: when the adjacency is none, dtypes differ or edge values are booleans.
        ValueError: when shapes or devices do not match, or the backend does not support the call.

    Source: Veličković et al., 2018, "Graph attention networks", equation 3.
    """
    scores = {"target_score": target_score, "source_score": source_score}
    if target_score.ndim != 2 or target_score.shape[1:] != source_score.shape[1:]:
        raise ValueError(
            f"target_score, source_score: got {shapes(**scores)}, expected [M, H] and [N, H]"
        )
    adjacency = check_inputs(
        adjacency, **{name: score.unsqueeze(-1) for name, score in scores.items()}, v=v
    )
    options = check_options(
        target_score,
        adjacency,
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        return_weights=return_weights,
    )
    if edge_score is not None:
        edge_score = check_edge_values("edge_score", edge_score, adjacency, target_score)
        edge_score = edge_score.expand(-1, target_score.shape[1])
    inputs = (target_score, source_score, v, edge_score)
    run = select_edge_backend("additive_attention", backend, inputs, adjacency, options)
    mask_heads(run, adjacency, target_score, options)
    result = run.additive_attention(
        target_score,
        source_score,
        v,
        adjacency,
        negative_slope=negative_slope,
        edge_score=edge_score,
        **options,
    )
    return public_output(result)


@overload
def gatv2_attention(
    q: Tensor, k: Tensor, v: Tensor, weight: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_key: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def gatv2_attention(
    q: Tensor, k: Tensor, v: Tensor, weight: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_key: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def gatv2_attention(
    q: Tensor, k: Tensor, v: Tensor, weight: Tensor, adjacency: Adjacency | Tensor, *,
    negative_slope: float = 0.2, edge_key: Tensor | None = None, bias: Tensor | None = None,
    edge_weight: Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: bool,
) -> Output: ...  # fmt: skip
def gatv2_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    adjacency: Adjacency | Tensor,
    *,
    negative_slope: float = 0.2,
    edge_key: Tensor | None = None,
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
    dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Additive attention with the nonlinearity before the dot product, as in GATv2.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              w_{ij}\, a \cdot \mathrm{LeakyReLU}(q_i + k_j + e_{ij}) + b_{ij})\, v_j

    Args:
        q: [M, H, D].
        k: [N, Hkv, D]; Hkv divides H.
        v: values, [N, Hkv, Dv].
        weight: a, [H, D].
        adjacency: M targets by N sources, or an edge_index [2, E].
        negative_slope: of the LeakyReLU.
        edge_key: e, [E, H, D].
        bias, edge_weight, dropout, backend, return_weights: as in `attention`.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights [E, H].

    Raises:
        TypeError: when the adjacency is none, dtypes differ or edge values are booleans.
        ValueError: when shapes or devices do not match, or the backend does not support the call.

    Source: Brody et al., 2022, "How attentive are graph attention networks?", equation 7.
    """
    adjacency = check_inputs(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or weight.shape != q.shape[1:]:
        raise ValueError(
            f"q, k, weight: got {shapes(q=q, k=k, weight=weight)}, expected one H and D"
        )
    weight = weight.to(q.dtype)  # autocast leaves parameters in float32
    options = check_options(
        q,
        adjacency,
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        return_weights=return_weights,
    )
    if edge_key is not None:
        edge_key = check_edge_aligned("edge_key", edge_key, adjacency, q)
        if edge_key.shape[1:] != q.shape[1:]:
            raise ValueError(
                f"edge_key: got {list(edge_key.shape)}, expected [E, {q.shape[1]}, {q.shape[2]}]"
            )
    inputs = (q, k, v, weight, edge_key)
    run = select_edge_backend("gatv2_attention", backend, inputs, adjacency, options)
    mask_heads(run, adjacency, q, options)
    result = run.gatv2_attention(
        q, k, v, weight, adjacency, negative_slope=negative_slope, edge_key=edge_key, **options
    )
    return public_output(result)
