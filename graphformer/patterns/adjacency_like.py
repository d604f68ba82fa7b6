"""`AdjacencyLike`, what models, tasks and modules accept as an adjacency, and its conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, as_adjacency
from graphformer.patterns.base import Pattern
from graphformer.patterns.fields import Layout

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

AdjacencyLike: TypeAlias = Adjacency | Pattern | Tensor | Sequence[Adjacency | Pattern | Tensor]
"""An adjacency, a pattern, an edge_index [2, E] (or a sparse tensor [M, N]), or one per block."""


def resolve(
    adjacency: AdjacencyLike,
    batch: BatchLike | None = None,
    *,
    num_nodes: int | tuple[int, int] | None = None,
    device: torch.device | None = None,
) -> Adjacency | list[Adjacency]:
    """Return the adjacency, or a list with the adjacency of each block.

    Without a batch, a pattern is applied to one sample of `num_nodes` nodes.

    Args:
        adjacency: an adjacency, a pattern, an edge_index, or a sequence of these with one per
            block; `patterns.PerLayer` gives one per block too.
        batch: what patterns read; its `num_nodes` is the size of an edge_index.
        num_nodes: the number of nodes, or (targets, sources); needed without a batch.
        device: where a pattern's explicit edges are stored; only used without a batch.

    Raises:
        TypeError: when it is none of these.
        ValueError: when a pattern is given for unequal numbers of targets and sources.
    """
    if isinstance(adjacency, Adjacency):
        return adjacency
    if isinstance(adjacency, Sequence) and not isinstance(adjacency, str):
        return [resolve_single(a, batch, num_nodes=num_nodes, device=device) for a in adjacency]
    if isinstance(adjacency, Pattern):
        return adjacency(_layout(adjacency, num_nodes, device) if batch is None else batch)
    size = num_nodes if batch is None else batch.num_nodes
    assert size is not None
    return as_adjacency(adjacency, size)


def resolve_single(
    adjacency: AdjacencyLike,
    batch: BatchLike | None = None,
    *,
    num_nodes: int | tuple[int, int] | None = None,
    device: torch.device | None = None,
) -> Adjacency:
    """Return the one adjacency; arguments as in `resolve`.

    Raises:
        TypeError: when it is none of these, or one per block.
        ValueError: as in `resolve`.
    """
    if isinstance(adjacency, Adjacency):
        return adjacency
    resolved = resolve(adjacency, batch, num_nodes=num_nodes, device=device)
    if isinstance(resolved, list):
        raise TypeError(
            f"adjacency: got {len(resolved)} adjacencies, one per block, expected a single one; "
            "pass the one of this block"
        )
    return resolved


def _layout(
    pattern: Pattern, num_nodes: int | tuple[int, int] | None, device: torch.device | None
) -> BatchLike:
    """One sample of `num_nodes` nodes, in place of a batch."""
    targets, sources = num_nodes if isinstance(num_nodes, tuple) else (num_nodes, num_nodes)
    assert targets is not None
    if targets != sources:
        raise ValueError(
            f"adjacency: got the pattern {pattern} for {targets} targets and {sources} sources, "
            f"expected as many of both; pass an adjacency, such as graphformer.complete({targets}, "
            f"{sources})"
        )
    return cast("BatchLike", Layout((targets,), device or torch.device("cpu")))
