"""What every attention function checks: shapes, dtypes, devices, values of edges."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, HeadEdges, Implicit, as_adjacency
from graphformer.ops.common import AttentionOptions


def checked(adjacency: Adjacency | Tensor, **tensors: Tensor) -> Adjacency:
    """Check the queries, keys and values, under the caller's names for them.

    Returns the adjacency, where the tensors are if it is a rule.
    """
    if not isinstance(adjacency, Adjacency | Tensor):
        raise TypeError(
            f"adjacency must be a graphformer adjacency, got {type(adjacency).__name__}; "
            "make one with from_edge_index or from_mask"
        )
    q, k, v = tensors.values()
    names = ", ".join(tensors)
    if not (q.ndim == k.ndim == v.ndim == 3):
        raise ValueError(f"{names} must be [nodes, heads, width], got {shapes(**tensors)}")
    if isinstance(adjacency, Tensor):
        adjacency = as_adjacency(adjacency, (len(q), len(k)))
    targets, sources = adjacency.shape
    if (q.shape[0], k.shape[0], v.shape[0]) != (targets, sources, sources):
        raise ValueError(
            f"{names} must have {targets}, {sources} and {sources} nodes for an adjacency of "
            f"{targets} targets x {sources} sources, got {shapes(**tensors)}"
        )
    if k.shape[1] != v.shape[1] or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{names}: keys and values must have one number of heads that divides the queries', "
            f"got {shapes(**tensors)}"
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


def edge_options(
    q: Tensor,
    adjacency: Adjacency,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    return_weights: bool,
) -> AttentionOptions:
    """Check the options of an edge, and draw a seed where something is to be dropped."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
    if bias is not None:
        bias = edge_values("bias", bias, adjacency, q).expand(-1, q.shape[1])
    if isinstance(adjacency, HeadEdges):
        bias = adjacency.head_bias(bias, q.shape[1], q.dtype)
    if edge_weight is not None:
        edge_weight = edge_values("edge_weight", edge_weight, adjacency, q)
    seed = torch.randint(2**63 - 1, (), device=q.device) if dropout else None
    return AttentionOptions(
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        seed=seed,
        return_weights=return_weights,
    )


def edge_values(name: str, values: Tensor, adjacency: Adjacency, q: Tensor) -> Tensor:
    """Check values that multiply or add to logits; return them as [E, H] or [E, 1]."""
    num_edges, heads = adjacency.num_edges, q.shape[1]
    aligned = edge_aligned(name, values, adjacency, q, f" or [{num_edges}, {heads}]")
    if aligned.ndim == 1:
        aligned = aligned.unsqueeze(1)
    if aligned.ndim != 2 or aligned.shape[1] not in (1, heads):
        raise ValueError(
            f"{name} must be [{num_edges}] or [{num_edges}, {heads}], a row for each edge of "
            f"adjacency.edge_index, got {tuple(values.shape)}"
        )
    return aligned


def edge_aligned(
    name: str, values: Tensor, adjacency: Adjacency, q: Tensor, shapes: str = " rows"
) -> Tensor:
    """Check that there is a row for each edge and return them, [E, ...], in q's dtype."""
    num_edges = adjacency.num_edges
    if values.dtype is torch.bool:
        raise TypeError(f"{name} must hold numbers, got bool; put a mask into the adjacency")
    given = adjacency.inverse_index if isinstance(adjacency, CSR) else None
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


def shapes(**tensors: Tensor) -> str:
    """Tensors by name, with their shapes, for a message."""
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
