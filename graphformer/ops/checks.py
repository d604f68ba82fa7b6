"""Checks of the attention functions' arguments: shapes, dtypes, devices, edge-aligned values."""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.adjacency import (
    CSR,
    Adjacency,
    ContentAdjacency,
    HeadEdges,
    Implicit,
    as_adjacency,
)
from graphformer.ops.common import AttentionOptions


def check_inputs(adjacency: Adjacency | Tensor, **tensors: Tensor) -> Adjacency:
    """Check queries, keys and values, in this order, under the caller's names for them.

    Returns:
        The adjacency, that of an edge_index too; a rule is moved to the tensors' device.

    Raises:
        TypeError: when the adjacency is none, or the tensors differ in dtype.
        ValueError: when shapes or devices do not match.
    """
    if not isinstance(adjacency, Adjacency | Tensor):
        raise TypeError(
            f"adjacency: got {type(adjacency).__name__}, expected a graphformer adjacency; make "
            "one with from_edge_index or from_mask"
        )
    q, k, v = tensors.values()
    names = ", ".join(tensors)
    if not (q.ndim == k.ndim == v.ndim == 3):
        raise ValueError(f"{names}: got {shapes(**tensors)}, expected [nodes, heads, width]")
    if isinstance(adjacency, Tensor):
        adjacency = as_adjacency(adjacency, (q.shape[0], k.shape[0]))
    targets, sources = adjacency.shape
    if (q.shape[0], k.shape[0], v.shape[0]) != (targets, sources, sources):
        raise ValueError(
            f"{names}: got {shapes(**tensors)}, expected {targets}, {sources} and {sources} nodes "
            f"for an adjacency of {targets} targets x {sources} sources"
        )
    if k.shape[1] != v.shape[1] or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{names}: got {shapes(**tensors)}, expected keys and values with one number of heads "
            "that divides the number of heads of the queries"
        )
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point):
        raise TypeError(
            f"{names}: got {q.dtype}, {k.dtype} and {v.dtype}, expected one float dtype"
        )
    if not (q.device == k.device == v.device):
        raise ValueError(
            f"{names}: got tensors on {q.device}, {k.device} and {v.device}, expected one device"
        )
    if isinstance(adjacency, Implicit | ContentAdjacency):
        return adjacency.to(q.device)
    if adjacency.device != q.device:
        raise ValueError(
            f"adjacency: got edges on {adjacency.device}, expected {q.device} like the tensors; "
            "move it once with adjacency.to(device)"
        )
    return adjacency


def check_widths(q: Tensor, k: Tensor) -> None:
    """Check that queries and keys share a head width.

    Raises:
        ValueError: when they do not, or it is 0.
    """
    if q.shape[2] != k.shape[2] or q.shape[2] == 0:
        raise ValueError(f"q, k: got {shapes(q=q, k=k)}, expected one width above 0")


def check_options(
    q: Tensor,
    adjacency: Adjacency,
    *,
    bias: Tensor | None,
    edge_weight: Tensor | None,
    dropout: float,
    return_weights: bool,
) -> AttentionOptions:
    """Check the options of a call, and draw a seed if there is dropout.

    Raises:
        TypeError: when edge values are booleans.
        ValueError: when shapes, devices or the probability are out of range.
    """
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout: got {dropout}, expected a probability from 0 to 1")
    if bias is not None:
        bias = check_edge_values("bias", bias, adjacency, q).expand(-1, q.shape[1])
    if isinstance(adjacency, HeadEdges):
        adjacency.check_heads(q.shape[1])
    if edge_weight is not None:
        edge_weight = check_edge_values("edge_weight", edge_weight, adjacency, q)
    seed = torch.randint(2**63 - 1, (), device=q.device) if dropout else None
    return AttentionOptions(
        bias=bias,
        edge_weight=edge_weight,
        dropout=dropout,
        seed=seed,
        return_weights=return_weights,
    )


def check_edge_values(name: str, values: Tensor, adjacency: Adjacency, q: Tensor) -> Tensor:
    """Check values that multiply or add to logits; return them as [E, H] or [E, 1].

    Raises:
        TypeError: when they are booleans.
        ValueError: when they are not [E] or [E, H], or on another device.
    """
    num_edges, heads = adjacency.num_edges, q.shape[1]
    aligned = check_edge_aligned(name, values, adjacency, q, f" or [{num_edges}, {heads}]")
    if aligned.ndim == 1:
        aligned = aligned.unsqueeze(1)
    if aligned.ndim != 2 or aligned.shape[1] not in (1, heads):
        raise ValueError(
            f"{name}: got {list(values.shape)}, expected [{num_edges}] or [{num_edges}, {heads}], "
            "one row per edge of adjacency.edge_index"
        )
    return aligned


def check_edge_aligned(
    name: str, values: Tensor, adjacency: Adjacency, q: Tensor, shapes: str = " rows"
) -> Tensor:
    """Check that values have one row per edge; return them, [E, ...], in the dtype of q.

    For edges that were given with duplicates, one row for each of these is accepted, too.

    Raises:
        TypeError: when the values are booleans.
        ValueError: when rows are missing, duplicates of an edge differ, or devices differ.
    """
    num_edges = adjacency.num_edges
    if values.dtype is torch.bool:
        raise TypeError(f"{name}: got bool, expected numbers; put a mask into the adjacency")
    inverse_index = adjacency.inverse_index if isinstance(adjacency, CSR) else None
    if inverse_index is not None and values.ndim and values.shape[0] == inverse_index.shape[0]:
        values = _coalesced(name, values, inverse_index, num_edges)
    if not values.ndim or values.shape[0] != num_edges:
        raise ValueError(
            f"{name}: got {list(values.shape)}, expected [{num_edges}]{shapes}, one row per edge "
            "of adjacency.edge_index"
        )
    if values.device != q.device:
        raise ValueError(f"{name}: got values on {values.device}, expected {q.device}; move them")
    return values.to(q.dtype)


def _coalesced(name: str, values: Tensor, inverse_index: Tensor, num_edges: int) -> Tensor:
    """The value of each edge at its first appearance; its duplicates must have the same."""
    position = torch.arange(len(inverse_index), device=inverse_index.device)
    first = torch.full((num_edges,), len(inverse_index), device=inverse_index.device)
    first = first.scatter_reduce(0, inverse_index, position, "amin")
    unique = values[first]
    if not torch.equal(unique.detach()[inverse_index], values.detach()):
        raise ValueError(
            f"{name}: got values that differ between duplicates of one edge, expected one value "
            "per edge; coalesce edges and values first"
        )
    return unique


def shapes(**tensors: Tensor) -> str:
    """Names and shapes of tensors, for a message."""
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
