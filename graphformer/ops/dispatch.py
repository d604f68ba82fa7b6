"""The public attention functions: they check their arguments and choose a backend."""

from __future__ import annotations

from torch import Tensor

from graphformer.adjacency import Adjacency, HeadEdges
from graphformer.ops.checks import checked, edge_aligned, edge_options, edge_values, shapes
from graphformer.ops.offset_bias import OffsetBias
from graphformer.ops.select import TAKE_RULES, Backend, select_backend

Output = Tensor | tuple[Tensor, Tensor]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency | Tensor,
    *,
    bias: Tensor | OffsetBias | None = None,
    edge_weight: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
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
        bias: b, added to the logits, [E] or [E, H]; or the rule that makes it, an `OffsetBias`.
        edge_weight: w, multiplies the logits, [E] or [E, H].
        scale: s; 1 / sqrt(D) by default.
        dropout: probability of dropping an attention weight; pass 0 when not training.
        backend: "auto", or one that is used as it is or says why not.
        return_weights: also return the weights [E, H], as they are applied: after dropout.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights.

    Raises:
        ValueError, TypeError: for shapes, dtypes or devices that do not fit together, or what
            an explicit backend cannot do.

    Source: Vaswani et al., 2017, "Attention is all you need", section 3.2.1.
    """
    adjacency = checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or q.shape[2] == 0:
        raise ValueError(f"q and k must have one width above 0, got {shapes(q=q, k=k)}")
    rule = bias if isinstance(bias, OffsetBias) else None
    values = None if isinstance(bias, OffsetBias) else bias
    if rule is not None and isinstance(adjacency, HeadEdges):  # whose bias is another a head
        values, rule = rule.on_edges(adjacency), None
    options = edge_options(q, adjacency, values, edge_weight, dropout, return_weights)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    width = min(q.shape[2], v.shape[2])
    run = select_backend("attention", backend, v, adjacency, options, rule=rule, width=width)
    extra: dict[str, OffsetBias] = {}
    if rule is not None and rule.table.shape[1] not in (1, q.shape[1]):
        raise ValueError(
            f"the table of bias must have {q.shape[1]} heads or 1, got {list(rule.table.shape)}"
        )
    if rule is not None and run.__name__ in TAKE_RULES:
        extra["rule"] = rule
    elif rule is not None:
        values = rule.on_edges(adjacency)
        options["bias"] = edge_values("bias", values, adjacency, q).expand(-1, q.shape[1])
    result = run.attention(q, k, v, adjacency, scale=scale, **extra, **options)
    return result if return_weights else result[0]


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
    backend: Backend = "auto",
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
        ValueError, TypeError: as in `attention`.

    Source: Veličković et al., 2018, "Graph attention networks", equation 3.
    """
    scores = {"target_score": target_score, "source_score": source_score}
    if target_score.ndim != 2 or target_score.shape[1:] != source_score.shape[1:]:
        raise ValueError(f"the scores must be [M, H] and [N, H], got {shapes(**scores)}")
    adjacency = checked(
        adjacency, **{name: score.unsqueeze(-1) for name, score in scores.items()}, v=v
    )
    options = edge_options(target_score, adjacency, bias, edge_weight, dropout, return_weights)
    extra = {}
    if edge_score is not None:
        edge_score = edge_values("edge_score", edge_score, adjacency, target_score)
        extra["edge_score"] = edge_score.expand(-1, target_score.shape[1])
    run = select_backend("additive_attention", backend, v, adjacency, options, *extra)
    result = run.additive_attention(
        target_score, source_score, v, adjacency, negative_slope=negative_slope, **extra, **options
    )
    return result if return_weights else result[0]


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
    backend: Backend = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Additive attention whose nonlinearity comes before the weighting, as in GATv2.

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
        ValueError, TypeError: as in `attention`.

    Source: Brody et al., 2022, "How attentive are graph attention networks?", equation 7.
    """
    adjacency = checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or weight.shape != q.shape[1:]:
        raise ValueError(
            f"q, k and weight must share H and D, got {shapes(q=q, k=k, weight=weight)}"
        )
    weight = weight.to(q.dtype)  # a parameter, which autocast leaves in float32
    options = edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    extra = {}
    if edge_key is not None:
        extra["edge_key"] = edge_aligned("edge_key", edge_key, adjacency, q)
        if extra["edge_key"].shape[1:] != q.shape[1:]:
            raise ValueError(
                f"edge_key must be [E, {q.shape[1]}, {q.shape[2]}], got {list(edge_key.shape)}"
            )
    run = select_backend("gatv2_attention", backend, v, adjacency, options, *extra)
    result = run.gatv2_attention(
        q, k, v, weight, adjacency, negative_slope=negative_slope, **extra, **options
    )
    return result if return_weights else result[0]


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
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Scaled dot-product attention whose keys and values hear from edge features.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              s\, w_{ij}\, q_i \cdot (k_j + K e_{ij}) + b_{ij})\, (v_j + V e_{ij})

    The mapped features, [E, H, D], are made by the reference only.

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
        ValueError, TypeError: as in `attention`.

    Source: Shi et al., 2021, "Masked label prediction", equations 3 and 4.
    """
    adjacency = checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or q.shape[2] == 0:
        raise ValueError(f"q and k must have one width above 0, got {shapes(q=q, k=k)}")
    edge_attr = edge_aligned("edge_attr", edge_attr, adjacency, q)
    heads, width = q.shape[1], edge_attr.shape[-1]
    maps = {"key_map": key_map, "value_map": value_map}
    expected = [(heads, q.shape[2], width), (heads, v.shape[2], width)]
    if edge_attr.ndim != 2 or [tuple(x.shape) for x in maps.values()] != expected:
        raise ValueError(
            f"edge_attr must be [E, F], key_map [H, D, F] and value_map [H, Dv, F], "
            f"got {shapes(edge_attr=edge_attr, **maps)}"
        )
    options = edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    run = select_backend("edge_feature_attention", backend, v, adjacency, options)
    key_map, value_map = key_map.to(q.dtype), value_map.to(q.dtype)
    result = run.edge_feature_attention(
        q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
    return result if return_weights else result[0]
