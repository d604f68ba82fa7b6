"""The public functions of dot-product attention: they check their arguments and call a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from graphformer.adjacency import (
    Adjacency,
    ContentAdjacency,
    HeadEdges,
    ListedEdges,
    RowEdges,
)
from graphformer.ops.backend import BackendName
from graphformer.ops.checks import (
    check_edge_aligned,
    check_edge_values,
    check_inputs,
    check_options,
    check_widths,
    shapes,
)
from graphformer.ops.common import Output, edge_products, public_output
from graphformer.ops.content import row_attention, select_edges, tiled_attention
from graphformer.ops.offset_bias import OffsetBias
from graphformer.ops.select import (
    applies_offset_bias,
    mask_heads,
    select_backend,
    select_edge_backend,
)


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
    if isinstance(bias, OffsetBias):
        _check_table(bias, q)
    if isinstance(adjacency, ContentAdjacency):
        selected: Adjacency = select_edges(
            adjacency, q, k, bias=bias, edge_weight=edge_weight, return_weights=return_weights
        )
        adjacency = selected
    if isinstance(adjacency, ListedEdges):
        plain = edge_weight is None and softcap is None and not return_weights
        if backend == "auto" and plain and not isinstance(bias, Tensor):
            q, scale = _scaled(q, scale)
            run = row_attention if isinstance(adjacency, RowEdges) else tiled_attention
            return run(q, k, v, adjacency, scale=scale, dropout=dropout, bias=bias)
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
        if applies_offset_bias(run):
            out, _ = run.attention(
                q, k, v, adjacency, scale=scale, offset_bias=offset_bias, **options
            )
            return out
        values = check_edge_values("bias", offset_bias.on_edges(adjacency), adjacency, q)
        options["bias"] = values.expand(-1, q.shape[1])
    mask_heads(run, adjacency, q, options)
    return public_output(run.attention(q, k, v, adjacency, scale=scale, **options))


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
    mask_heads(run, adjacency, q, options)
    result = run.edge_feature_attention(
        q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
    return public_output(result)


def _check_table(bias: OffsetBias, q: Tensor) -> None:
    """Check that a bias has as many heads as the queries, or one.

    Raises:
        ValueError: when it has another number.
    """
    heads = bias.table.shape[1]
    if heads not in (1, q.shape[1]):
        raise ValueError(f"bias: got a table of {heads} heads, expected {q.shape[1]} or 1")


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
