"""The public attention functions: they check their arguments and choose a backend."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, Causal, Complete, Implicit
from graphformer.ops import reference, scatter, sdpa
from graphformer.ops.common import EdgeOptions

Backend = Literal["auto", "reference", "sdpa", "scatter"]
BACKENDS: dict[str, ModuleType] = {"reference": reference, "sdpa": sdpa, "scatter": scatter}
Output = Tensor | tuple[Tensor, Tensor]

DENSE = 0.1
"""Blocks with more than this share of their edges go through a dense mask (measured)."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    bias: Tensor | None = None,
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
        bias: b, added to the logits, [E] or [E, H].
        edge_weight: w, multiplies the logits, [E] or [E, H].
        scale: s; 1 / sqrt(D) by default.
        dropout: probability of dropping an attention weight; pass 0 when not training.
        backend: "auto", or one that is used as it is or says why not.
        return_weights: also return the weights before dropout, [E, H].

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
    options = _edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    run = _backend("attention", backend, adjacency, options)
    result = run.attention(q, k, v, adjacency, scale=scale, **options)
    return result if return_weights else result[0]


def additive_attention(
    target_score: Tensor,
    source_score: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    negative_slope: float = 0.2,
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Additive attention over the edges of an adjacency, as in GAT.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              w_{ij}\, \mathrm{LeakyReLU}(t_i + s_j) + b_{ij})\, v_j

    Args:
        target_score: t, [M, H].
        source_score: s, [N, H].
        v: values, [N, H, Dv].
        adjacency: M targets by N sources.
        negative_slope: of the LeakyReLU.
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
    run = _backend("additive_attention", backend, adjacency, options)
    result = run.additive_attention(
        target_score, source_score, v, adjacency, negative_slope=negative_slope, **options
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
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
    return_weights: bool = False,
) -> Output:
    r"""Additive attention whose nonlinearity comes before the weighting, as in GATv2.

    .. math::
        y_i = \sum_{j \to i} \mathrm{softmax}_j(
              w_{ij}\, a \cdot \mathrm{LeakyReLU}(q_i + k_j) + b_{ij})\, v_j

    Args:
        q: [M, H, D].
        k: [N, Hkv, D]; Hkv divides H.
        v: values, [N, Hkv, Dv].
        weight: a, [H, D].
        adjacency: M targets by N sources.
        negative_slope: of the LeakyReLU.
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
    options = _edge_options(q, adjacency, bias, edge_weight, dropout, return_weights)
    run = _backend("gatv2_attention", backend, adjacency, options)
    result = run.gatv2_attention(
        q, k, v, weight, adjacency, negative_slope=negative_slope, **options
    )
    return result if return_weights else result[0]


def _backend(function: str, name: str, adjacency: Adjacency, options: EdgeOptions) -> ModuleType:
    """The backend asked for, or the one that suits; it must have the function."""
    if name == "auto":
        name = _suitable(function, adjacency, options)
    if name not in BACKENDS:
        names = ", ".join(BACKENDS)
        raise ValueError(f"backend must be auto or one of {names}, got {name!r}")
    if not hasattr(BACKENDS[name], function):
        raise ValueError(f"backend={name!r} has no {function}; choose another, or 'auto'")
    return BACKENDS[name]


def _suitable(function: str, adjacency: Adjacency, options: EdgeOptions) -> str:
    if function == "attention" and sdpa.why_not(options) is None:
        rule = isinstance(adjacency, Complete | Causal)
        if rule or adjacency.block_density > DENSE:
            return "sdpa"
    return "scatter"


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
    """Check edge-aligned values and return them as [E, H] or [E, 1] in q's dtype."""
    num_edges, heads = adjacency.num_edges, q.shape[1]
    given = adjacency.given if isinstance(adjacency, CSR) else None
    if given is not None and len(values) == len(given):
        values = _coalesced(name, values, given, num_edges)
    if values.ndim == 1:
        values = values.unsqueeze(1)
    if values.ndim != 2 or values.shape[0] != num_edges or values.shape[1] not in (1, heads):
        raise ValueError(
            f"{name} must be [{num_edges}] or [{num_edges}, {heads}], a row for each edge of "
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
