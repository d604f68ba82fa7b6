"""The public attention functions: they check their arguments and call a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from graphformer.adjacency import Adjacency, ContentAdjacency, HeadEdges, TiledEdges
from graphformer.ops.backend import Backend, BackendName
from graphformer.ops.checks import (
    check_edge_aligned,
    check_edge_values,
    check_inputs,
    check_options,
    check_widths,
    shapes,
)
from graphformer.ops.common import AttentionOptions, edge_products
from graphformer.ops.content import select_edges, tiled_attention
from graphformer.ops.offset_bias import OffsetBias
from graphformer.ops.select import applies_offset_bias, select_backend, select_edge_backend

Output = Tensor | tuple[Tensor, Tensor]
"""The output; with `return_weights` the pair of it and the weights."""


@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    bias: Tensor | OffsetBias | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, softcap: float | None = None, dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    bias: Tensor | OffsetBias | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, softcap: float | None = None, dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def attention(
    q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency | Tensor, *,
    bias: Tensor | OffsetBias | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, softcap: float | None = None, dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: bool,
) -> Output: ...  # fmt: skip
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency | Tensor,
    *,
    bias: Tensor | OffsetBias | None = None,
    edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Scaled dot-product attention over the edges of an adjacency.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(s\, w_{ij}\, q_i \cdot k_j + b_{ij})\, v_j

    A target without an edge gets zeros. Edge-aligned tensors follow `adjacency.edge_index`.

    Args:
        q: queries, [M, H, D].
        k: keys, [N, Hkv, D]; Hkv divides H, each key head serving H / Hkv query heads in a row.
        v: values, [N, Hkv, Dv].
        adjacency: M targets by N sources, or an edge_index [2, E].
        bias: b, added to the logits, [E] or [E, H]; or an `OffsetBias`, from which it is computed.
        edge_weight: w, multiplies the logits, [E] or [E, H]; an edge of weight 0 stays in the
            softmax. For attention proportional to weights pass `bias=gf.nn.log_weight_bias(w)`.
        scale: s; 1 / sqrt(D) by default. A tensor, such as a parameter [H, 1], multiplies q.
        softcap: c, bounds the products x = s q_i . k_j to c tanh(x / c), before w and b; None for
            no bound. The bounded products, [E, H], are stored.
        dropout: probability of dropping an attention weight; pass 0 when not training.
        backend: "auto" for the fastest that supports the call; no other is replaced if it fails.
        return_weights: also return the weights [E, H] after dropout.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights.

    Raises:
        TypeError: when the adjacency is none, dtypes differ or edge values are booleans.
        ValueError: when shapes or devices do not match, the softcap is not above 0, or the backend
            does not support the call.

    Source: Vaswani et al., 2017, "Attention is all you need", section 3.2.1; softcap: Gemma Team,
    2024 (Gemma 2), section 2.
    """
    adjacency = check_inputs(adjacency, q=q, k=k, v=v)
    check_widths(q, k)
    if isinstance(adjacency, ContentAdjacency):
        selected: Adjacency = select_edges(
            adjacency, q, k, bias=bias, edge_weight=edge_weight, return_weights=return_weights
        )
        adjacency = selected
    if isinstance(adjacency, TiledEdges):
        plain = bias is None and edge_weight is None and softcap is None and not return_weights
        if backend == "auto" and plain:
            q, scale = _scaled(q, scale)
            return tiled_attention(q, k, v, adjacency, scale=scale, dropout=dropout)
        adjacency = adjacency.head_edges
    if softcap is not None:
        q, scale = _scaled(q, scale)
        bias = _capped_bias(q, k, adjacency, scale, softcap, bias, edge_weight)
        edge_weight, scale = None, 0.0  # the bias is the whole logit
    offset_bias = bias if isinstance(bias, OffsetBias) else None
    edge_bias = None if isinstance(bias, OffsetBias) else bias
    if offset_bias is not None and isinstance(adjacency, HeadEdges):  # has a bias of its own
        edge_bias, offset_bias = offset_bias.on_edges(adjacency), None
    options = check_options(
        q,
        adjacency,
        bias=edge_bias,
        edge_weight=edge_weight,
        dropout=dropout,
        return_weights=return_weights,
    )
    q, scale = _scaled(q, scale)
    width = min(q.shape[2], v.shape[2])
    bias_tensors = () if offset_bias is None else (offset_bias.table, offset_bias.slope)
    run = select_backend(
        "attention",
        backend,
        (q, k, v, *bias_tensors),
        adjacency,
        options,
        offset_bias=offset_bias,
        width=width,
    )
    if offset_bias is not None:
        heads = offset_bias.table.shape[1]
        if heads not in (1, q.shape[1]):
            raise ValueError(f"bias: got a table of {heads} heads, expected {q.shape[1]} or 1")
        if applies_offset_bias(run):
            out, _ = run.attention(
                q, k, v, adjacency, scale=scale, offset_bias=offset_bias, **options
            )
            return out
        values = check_edge_values("bias", offset_bias.on_edges(adjacency), adjacency, q)
        options["bias"] = values.expand(-1, q.shape[1])
    _mask_heads(run, adjacency, q, options)
    return _output(run.attention(q, k, v, adjacency, scale=scale, **options))


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
    _mask_heads(run, adjacency, target_score, options)
    result = run.additive_attention(
        target_score,
        source_score,
        v,
        adjacency,
        negative_slope=negative_slope,
        edge_score=edge_score,
        **options,
    )
    return _output(result)


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
    _mask_heads(run, adjacency, q, options)
    result = run.gatv2_attention(
        q, k, v, weight, adjacency, negative_slope=negative_slope, edge_key=edge_key, **options
    )
    return _output(result)


@overload
def edge_feature_attention(
    q: Tensor, k: Tensor, v: Tensor, edge_attr: Tensor, key_map: Tensor, value_map: Tensor,
    adjacency: Adjacency | Tensor, *,
    bias: Tensor | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def edge_feature_attention(
    q: Tensor, k: Tensor, v: Tensor, edge_attr: Tensor, key_map: Tensor, value_map: Tensor,
    adjacency: Adjacency | Tensor, *,
    bias: Tensor | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def edge_feature_attention(
    q: Tensor, k: Tensor, v: Tensor, edge_attr: Tensor, key_map: Tensor, value_map: Tensor,
    adjacency: Adjacency | Tensor, *,
    bias: Tensor | None = None, edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None, dropout: float = 0.0, backend: BackendName = "auto",
    return_weights: bool,
) -> Output: ...  # fmt: skip
def edge_feature_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge_attr: Tensor,
    key_map: Tensor,
    value_map: Tensor,
    adjacency: Adjacency | Tensor,
    *,
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
    scale: float | Tensor | None = None,
    dropout: float = 0.0,
    backend: BackendName = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Scaled dot-product attention whose keys and values include projected edge features.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              s\, w_{ij}\, q_i \cdot (k_j + K e_{ij}) + b_{ij})\, (v_j + V e_{ij})

    The projected features, [E, H, D], are computed by the reference backend only.

    Args:
        q: queries, [M, H, D].
        k: keys, [N, Hkv, D]; Hkv divides H.
        v: values, [N, Hkv, Dv].
        edge_attr: e, [E, F].
        key_map: K, [H, D, F].
        value_map: V, [H, Dv, F].
        adjacency: M targets by N sources, or an edge_index [2, E].
        bias, edge_weight, scale, dropout, backend, return_weights: as in `attention`.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights [E, H].

    Raises:
        TypeError: when the adjacency is none, dtypes differ or edge values are booleans.
        ValueError: when shapes or devices do not match, or the backend does not support the call.

    Source: Shi et al., 2021, "Masked label prediction", equations 3 and 4.
    """
    adjacency = check_inputs(adjacency, q=q, k=k, v=v)
    check_widths(q, k)
    edge_attr = check_edge_aligned("edge_attr", edge_attr, adjacency, q)
    heads, width = q.shape[1], edge_attr.shape[-1]
    maps = {"key_map": key_map, "value_map": value_map}
    expected = [(heads, q.shape[2], width), (heads, v.shape[2], width)]
    if edge_attr.ndim != 2 or [tuple(x.shape) for x in maps.values()] != expected:
        raise ValueError(
            f"edge_attr, key_map, value_map: got {shapes(edge_attr=edge_attr, **maps)}, expected "
            "[E, F], [H, D, F] and [H, Dv, F]"
        )
    options = check_options(
        q,
        adjacency,
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        return_weights=return_weights,
    )
    q, scale = _scaled(q, scale)
    inputs = (q, k, v, edge_attr, key_map, value_map)
    run = select_edge_backend("edge_feature_attention", backend, inputs, adjacency, options)
    key_map, value_map = key_map.to(q.dtype), value_map.to(q.dtype)
    _mask_heads(run, adjacency, q, options)
    result = run.edge_feature_attention(
        q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
    return _output(result)


def _mask_heads(run: Backend, adjacency: Adjacency, q: Tensor, options: AttentionOptions) -> None:
    """Give a backend that shares edges between heads a bias of minus infinity on absent ones."""
    if isinstance(adjacency, HeadEdges) and not run.SUPPORTS_HEAD_EDGES:
        options["bias"] = adjacency.head_bias(options["bias"], q.shape[1], q.dtype)


def _scaled(q: Tensor, scale: float | Tensor | None) -> tuple[Tensor, float]:
    """The queries and a scale that is a number; a tensor's gradient needs the product with q."""
    if scale is None:
        return q, q.shape[2] ** -0.5
    if isinstance(scale, Tensor):
        return (q * scale).to(q.dtype), 1.0
    return q, scale


def _capped_bias(
    q: Tensor,
    k: Tensor,
    adjacency: Adjacency,
    scale: float,
    softcap: float,
    bias: Tensor | OffsetBias | None,
    edge_weight: Tensor | None,
) -> Tensor:
    """Return w_ij c tanh(s q_i . k_j / c) + b_ij, [E, H]."""
    if not softcap > 0:
        raise ValueError(f"softcap: got {softcap}, expected a number above 0, or None")
    logits = softcap * (edge_products(q, k, adjacency, scale) / softcap).tanh()
    if edge_weight is not None:
        logits = logits * check_edge_values("edge_weight", edge_weight, adjacency, q)
    if bias is None:
        return logits
    values = bias.on_edges(adjacency) if isinstance(bias, OffsetBias) else bias
    return logits + check_edge_values("bias", values, adjacency, q)


def _output(result: tuple[Tensor, Tensor | None]) -> Output:
    out, weights = result
    return out if weights is None else (out, weights)
