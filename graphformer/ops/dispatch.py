"""The public attention functions: they check their arguments and choose a backend."""

from __future__ import annotations

from importlib.util import find_spec
from inspect import signature
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, Causal, Complete, Implicit
from graphformer.ops import cpu, reference, scatter, sdpa
from graphformer.ops.bias import OffsetBias
from graphformer.ops.common import EdgeOptions

Backend = Literal["auto", "reference", "sdpa", "cpu", "scatter", "triton", "flex"]
BACKENDS: dict[str, ModuleType] = {
    "reference": reference,
    "sdpa": sdpa,
    "cpu": cpu,
    "scatter": scatter,
}
LAZY = ("triton", "flex")
"""Backends for CUDA, imported when one is used, so that nobody else waits for them."""
HAS_TRITON = find_spec("triton") is not None
TAKE_RULES = ("graphformer.ops.sdpa", "graphformer.ops.flex")
"""The backends that apply an `OffsetBias` themselves; the others get its value on each edge."""

Output = Tensor | tuple[Tensor, Tensor]

DENSE = {"cpu": 0.3, "cuda": 0.1}
"""Blocks with more than this share of their edges go through a dense mask, by type of device.

On a CPU the fused kernel and the masked product cost the same at 0.2 to 0.4, depending on widths.
"""
ON_CUDA = {"sizes": 4, "fill": 0.02}
"""Where `auto` changes roads on CUDA. Estimates: NOT YET MEASURED ON A GPU.

| adjacency | backend |
| --- | --- |
| complete or causal, samples of at most `sizes` lengths (a call each) | sdpa |
| rules and their unions, edges at least `fill` of the 128 x 128 blocks that hold any | flex |
| rules that flex cannot take for their options, denser than `DENSE["cuda"]` | sdpa, masked |
| everything else | triton; scatter for float64 and without Triton |

`fill` is what a tensor core's pass over a block costs against one gathered edge: 256 operations a
pair at 4e14 a second in bfloat16, against 256 bytes an edge at 2e12 a second, for width 64.
`make bench-gpu` measures both sides (suites `window` and `crossover`).
"""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
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
        adjacency: M targets by N sources.
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
    adjacency = _checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or q.shape[2] == 0:
        raise ValueError(f"q and k must have one width above 0, got {_shapes(q=q, k=k)}")
    rule = bias if isinstance(bias, OffsetBias) else None
    values = None if isinstance(bias, OffsetBias) else bias
    options = _edge_options(q, adjacency, values, edge_weight, dropout, return_weights)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    width = min(q.shape[2], v.shape[2])
    run = _backend("attention", backend, v, adjacency, options, rule=rule, width=width)
    extra: dict[str, OffsetBias] = {}
    if rule is not None and rule.table.shape[1] not in (1, q.shape[1]):
        raise ValueError(
            f"the table of bias must have {q.shape[1]} heads or 1, got {list(rule.table.shape)}"
        )
    if rule is not None and run.__name__ in TAKE_RULES:
        extra["rule"] = rule
    elif rule is not None:
        values = rule.on_edges(adjacency)
        options["bias"] = _edge_values("bias", values, adjacency, q).expand(-1, q.shape[1])
    result = run.attention(q, k, v, adjacency, scale=scale, **extra, **options)
    return result if return_weights else result[0]


def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency,
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
        adjacency: M targets by N sources.
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
        raise ValueError(f"the scores must be [M, H] and [N, H], got {_shapes(**scores)}")
    adjacency = _checked(
        adjacency, **{name: score.unsqueeze(-1) for name, score in scores.items()}, v=v
    )
    options = _edge_options(target_score, adjacency, bias, edge_weight, dropout, return_weights)
    extra = {}
    if edge_score is not None:
        edge_score = _edge_values("edge_score", edge_score, adjacency, target_score)
        extra["edge_score"] = edge_score.expand(-1, target_score.shape[1])
    run = _backend("additive_attention", backend, v, adjacency, options, *extra)
    result = run.additive_attention(
        target_score, source_score, v, adjacency, negative_slope=negative_slope, **extra, **options
    )
    return result if return_weights else result[0]


def gatv2_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    adjacency: Adjacency,
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
        adjacency: M targets by N sources.
        negative_slope: of the LeakyReLU.
        edge_key: e, [E, H, D].
        bias, edge_weight, dropout, backend, return_weights: as in `attention`.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights [E, H].

    Raises:
        ValueError, TypeError: as in `attention`.

    Source: Brody et al., 2022, "How attentive are graph attention networks?", equation 7.
    """
    adjacency = _checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or weight.shape != q.shape[1:]:
        raise ValueError(
            f"q, k and weight must share H and D, got {_shapes(q=q, k=k, weight=weight)}"
        )
    weight = weight.to(q.dtype)  # a parameter, which autocast leaves in float32
    options = _edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    extra = {}
    if edge_key is not None:
        extra["edge_key"] = _edge_aligned("edge_key", edge_key, adjacency, q)
        if extra["edge_key"].shape[1:] != q.shape[1:]:
            raise ValueError(
                f"edge_key must be [E, {q.shape[1]}, {q.shape[2]}], got {list(edge_key.shape)}"
            )
    run = _backend("gatv2_attention", backend, v, adjacency, options, *extra)
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
    adjacency: Adjacency,
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
        adjacency: M targets by N sources.
        bias, edge_weight, scale, dropout, backend, return_weights: as in `attention`.

    Returns:
        y, [M, H, Dv]; with `return_weights` the pair of it and the weights [E, H].

    Raises:
        ValueError, TypeError: as in `attention`.

    Source: Shi et al., 2021, "Masked label prediction", equations 3 and 4.
    """
    adjacency = _checked(adjacency, q=q, k=k, v=v)
    if q.shape[2] != k.shape[2] or q.shape[2] == 0:
        raise ValueError(f"q and k must have one width above 0, got {_shapes(q=q, k=k)}")
    edge_attr = _edge_aligned("edge_attr", edge_attr, adjacency, q)
    heads, width = q.shape[1], edge_attr.shape[-1]
    maps = {"key_map": key_map, "value_map": value_map}
    expected = [(heads, q.shape[2], width), (heads, v.shape[2], width)]
    if edge_attr.ndim != 2 or [tuple(x.shape) for x in maps.values()] != expected:
        raise ValueError(
            f"edge_attr must be [E, F], key_map [H, D, F] and value_map [H, Dv, F], "
            f"got {_shapes(edge_attr=edge_attr, **maps)}"
        )
    options = _edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    run = _backend("edge_feature_attention", backend, v, adjacency, options)
    key_map, value_map = key_map.to(q.dtype), value_map.to(q.dtype)
    result = run.edge_feature_attention(
        q, k, v, edge_attr, key_map, value_map, adjacency, scale=scale, **options
    )
    return result if return_weights else result[0]


def _backend(
    function: str,
    name: str,
    v: Tensor,
    adjacency: Adjacency,
    options: EdgeOptions,
    *extra: str,
    **known: Any,
) -> ModuleType:
    """The backend asked for, or the one that suits; it must have the function and its `extra`.

    `known` is what else the choice depends on: see `_on_cuda`.
    """
    if name == "auto":
        name = _suitable(function, adjacency, options, v.dtype, **known)
        if not _takes(name, function, extra):
            name = "scatter"
    if name not in BACKENDS and name not in LAZY:
        names = ", ".join([*BACKENDS, *LAZY])
        raise ValueError(f"backend must be auto or one of {names}, got {name!r}")
    module = _module(name)
    if not hasattr(module, function):
        raise ValueError(f"backend={name!r} has no {function}; choose another, or 'auto'")
    if not _takes(name, function, extra):
        raise ValueError(
            f"backend={name!r} takes no {' or '.join(extra)}; choose another, or 'auto'"
        )
    return module


def _module(name: str) -> ModuleType:
    if name == "triton":
        from graphformer.ops import triton

        return triton
    if name == "flex":
        from graphformer.ops import flex

        return flex
    return BACKENDS[name]


def _takes(name: str, function: str, extra: tuple[str, ...]) -> bool:
    """Whether a backend's function has these options, which not all of them have."""
    if not extra:
        return True
    return set(extra) <= set(signature(getattr(_module(name), function)).parameters)


def _suitable(
    function: str,
    adjacency: Adjacency,
    options: EdgeOptions,
    dtype: torch.dtype = torch.float32,
    **known: Any,
) -> str:
    device = adjacency.device.type
    if device == "cuda":
        return _on_cuda(function, adjacency, options, dtype, **known)
    # A masked product lets NaN through the mask; where samples are known, at least not across them.
    if function == "attention" and isinstance(adjacency, Implicit) and not sdpa.why_not(options):
        plain = isinstance(adjacency, Complete | Causal)
        if plain or adjacency.block_density > DENSE.get(device, 0.1):
            return "sdpa"
    return "cpu" if device == "cpu" else "scatter"


def _on_cuda(
    function: str,
    adjacency: Adjacency,
    options: EdgeOptions,
    dtype: torch.dtype,
    rule: OffsetBias | None = None,
    width: int = 0,
) -> str:
    """What suits on CUDA, by density and block structure; see `ON_CUDA`."""
    fused = "triton" if HAS_TRITON and dtype != torch.float64 else "scatter"
    if function != "attention" or not (isinstance(adjacency, Implicit) or adjacency.parts):
        return fused
    plain = isinstance(adjacency, Complete | Causal)
    able = not sdpa.why_not(options) and isinstance(adjacency, Implicit)
    if able and plain and len(adjacency.buckets) <= ON_CUDA["sizes"]:
        return "sdpa"
    if fused == "triton":
        from graphformer.ops import flex

        if width >= flex.NARROWEST and not flex.why_not(adjacency, options, rule):
            filled = flex.fill(adjacency.num_edges, *flex.rules_of(adjacency))
            return "flex" if filled >= ON_CUDA["fill"] else fused
    return "sdpa" if able and adjacency.block_density > DENSE["cuda"] else fused


def _checked(adjacency: Adjacency, **tensors: Tensor) -> Adjacency:
    """Check the queries, keys and values, under the caller's names for them.

    Returns the adjacency, where the tensors are if it is a rule.
    """
    if not isinstance(adjacency, Adjacency):
        raise TypeError(
            f"adjacency must be a graphformer adjacency, got {type(adjacency).__name__}; "
            "make one with from_edge_index or from_mask"
        )
    q, k, v = tensors.values()
    names = ", ".join(tensors)
    if not (q.ndim == k.ndim == v.ndim == 3):
        raise ValueError(f"{names} must be [nodes, heads, width], got {_shapes(**tensors)}")
    targets, sources = adjacency.shape
    if (q.shape[0], k.shape[0], v.shape[0]) != (targets, sources, sources):
        raise ValueError(
            f"{names} must have {targets}, {sources} and {sources} nodes for an adjacency of "
            f"{targets} targets x {sources} sources, got {_shapes(**tensors)}"
        )
    if k.shape[1] != v.shape[1] or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{names}: keys and values must have one number of heads that divides the queries', "
            f"got {_shapes(**tensors)}"
        )
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point):
        raise TypeError(f"{names} must share a float dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    if not (q.device == k.device == v.device):
        raise ValueError(f"{names} must share a device, got {q.device}, {k.device}, {v.device}")
    if isinstance(adjacency, Implicit):
        return adjacency.to(q.device)
    if adjacency.device != q.device:
        raise ValueError(
            f"adjacency is on {adjacency.device}, but the tensors are on {q.device}; move it once "
            "with adjacency.to(device)"
        )
    return adjacency


def _edge_options(
    q: Tensor,
    adjacency: Adjacency,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    return_weights: bool,
) -> EdgeOptions:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
    if bias is not None:
        bias = _edge_values("bias", bias, adjacency, q).expand(-1, q.shape[1])
    if edge_weight is not None:
        edge_weight = _edge_values("edge_weight", edge_weight, adjacency, q)
    seed = torch.randint(2**63 - 1, (), device=q.device) if dropout else None
    return EdgeOptions(
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        seed=seed,
        return_weights=return_weights,
    )


def _edge_values(name: str, values: Tensor, adjacency: Adjacency, q: Tensor) -> Tensor:
    """Check values that multiply or add to logits; return them as [E, H] or [E, 1]."""
    num_edges, heads = adjacency.num_edges, q.shape[1]
    aligned = _edge_aligned(name, values, adjacency, q, f" or [{num_edges}, {heads}]")
    if aligned.ndim == 1:
        aligned = aligned.unsqueeze(1)
    if aligned.ndim != 2 or aligned.shape[1] not in (1, heads):
        raise ValueError(
            f"{name} must be [{num_edges}] or [{num_edges}, {heads}], a row for each edge of "
            f"adjacency.edge_index, got {tuple(values.shape)}"
        )
    return aligned


def _edge_aligned(
    name: str, values: Tensor, adjacency: Adjacency, q: Tensor, shapes: str = " rows"
) -> Tensor:
    """Check that there is a row for each edge and return them, [E, ...], in q's dtype."""
    num_edges = adjacency.num_edges
    if values.dtype is torch.bool:
        raise TypeError(f"{name} must hold numbers, got bool; put a mask into the adjacency")
    given = adjacency.given if isinstance(adjacency, CSR) else None
    if given is not None and values.ndim and len(values) == len(given):
        values = _coalesced(name, values, given, num_edges)
    if not values.ndim or values.shape[0] != num_edges:
        raise ValueError(
            f"{name} must be [{num_edges}]{shapes}, a row for each edge of "
            f"adjacency.edge_index, got {tuple(values.shape)}"
        )
    if values.device != q.device:
        raise ValueError(f"{name} is on {values.device}, q on {q.device}; move one of them")
    return values.to(q.dtype)


def _coalesced(name: str, values: Tensor, given: Tensor, num_edges: int) -> Tensor:
    """Take each edge's value at its first appearance; its duplicates must carry the same."""
    numbers = torch.arange(len(given), device=given.device)
    first = torch.full((num_edges,), len(given), device=given.device)
    first = first.scatter_reduce(0, given, numbers, "amin")
    unique = values[first]
    if not torch.equal(unique.detach()[given], values.detach()):
        raise ValueError(
            f"{name} differs between duplicates of one edge; coalesce edges and values first"
        )
    return unique


def _shapes(**tensors: Tensor) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
