"""The public constructors: they check what they are given, and make an adjacency of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.csr import CSR
from graphformer.adjacency.edge_values import edge_values
from graphformer.adjacency.implicit import Causal, Complete, Grid, Implicit, Window

if TYPE_CHECKING:
    import networkx

Lengths = int | Sequence[int] | Tensor
"""Nodes a sample: an int, a sequence (or numpy array) of ints or a 1-D integer tensor."""


def complete(lengths: Lengths, source_lengths: Lengths | None = None) -> Complete:
    """Every target attends to every source of its sample.

    Args:
        lengths: targets a sample: an int, a sequence of ints or a 1-D integer tensor.
        source_lengths: sources a sample; the same as `lengths` by default.

    Raises ValueError for negative lengths or a different number of samples.
    """
    return Complete(_blocks(lengths, source_lengths), device=_device(lengths))


def causal(lengths: Lengths, source_lengths: Lengths | None = None) -> Causal:
    """Each target attends to the sources up to its own place, aligned at the end.

    With as many sources as targets this is the lower triangle with its diagonal. With more
    sources (decoding with a cache) the last target sees them all. With fewer, the first targets
    see none.

    Args:
        lengths: targets a sample: an int, a sequence of ints or a 1-D integer tensor.
        source_lengths: sources a sample; the same as `lengths` by default.

    Raises ValueError for negative lengths or a different number of samples.
    """
    return Causal(_blocks(lengths, source_lengths), device=_device(lengths))


def window(lengths: Lengths, radius: int, causal: bool = False) -> Window:
    """Each node attends to those at most `radius` places away, itself included.

    Args:
        lengths: nodes a sample: an int, a sequence of ints or a 1-D integer tensor.
        radius: the reach in nodes; 0 leaves the node itself.
        causal: leave out the nodes that come later.

    Raises ValueError for negative lengths or radius.
    """
    radius = _count("radius", radius)
    return Window(_blocks(lengths, None), radius=radius, causal=causal, device=_device(lengths))


def grid(shapes: Sequence[int] | Sequence[Sequence[int]] | Tensor, radius: int = 1) -> Grid:
    """Each cell of a grid, numbered row by row, attends to the cells around it and itself.

    Args:
        shapes: (height, width), or one such pair a sample, or an integer tensor [B, 2].
        radius: the reach in rows and columns (Chebyshev distance).

    Raises ValueError for anything but pairs, and for negative sizes or radius.
    """
    device = _device(shapes)
    pairs = shapes.tolist() if hasattr(shapes, "tolist") else shapes
    if not isinstance(pairs, Sequence):
        raise ValueError(f"shapes must be (height, width) pairs, got {shapes!r}")
    if len(pairs) == 2 and not any(isinstance(size, Sequence | Tensor) for size in pairs):
        pairs = [pairs]
    blocks = []
    for pair in pairs:
        if not isinstance(pair, Sequence | Tensor) or len(pair) != 2:
            raise ValueError(f"shapes must be (height, width) pairs, got {pair!r}")
        blocks.append((_count("shapes", pair[0]), _count("shapes", pair[1])))
    return Grid(tuple(blocks), radius=_count("radius", radius), device=device)


def from_edge_index(
    edge_index: Tensor, num_nodes: int | tuple[int, int], *, coalesce: bool = True
) -> CSR:
    """An adjacency of given edges; duplicates are coalesced and no self-loops are added.

    Edge-aligned tensors (bias, edge_weight, returned weights) follow the order of these edges,
    a duplicate counting where it first appears. Values may also be given for the whole list with
    its duplicates, if those of one edge are the same.

    Args:
        edge_index: integer [2, E], sources above targets, PyG's convention.
        num_nodes: the number of nodes, or (targets, sources) for a bipartite adjacency.
        coalesce: whether duplicates become one edge; else each keeps its own share of the softmax.

    Raises TypeError for a non-integer tensor, ValueError for a wrong shape, IndexError for a
    node out of range.
    """
    edges = torch.as_tensor(edge_index).as_subclass(Tensor)
    if edges.dtype.is_floating_point or edges.dtype.is_complex or edges.dtype is torch.bool:
        raise TypeError(f"edge_index must hold integers, got dtype {edges.dtype}")
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise ValueError(f"edge_index must be [2, E], got shape {tuple(edges.shape)}")
    targets, sources = num_nodes if isinstance(num_nodes, tuple) else (num_nodes, num_nodes)
    shape = _count("num_nodes", targets), _count("num_nodes", sources)
    for name, row, size in (("source", edges[0], shape[1]), ("target", edges[1], shape[0])):
        _check_range(name, row, size)
    return CSR.from_edges(edges.long(), shape, coalesce=coalesce)


def from_mask(mask: Tensor) -> CSR:
    """The adjacency whose target i attends to source j where `mask[i, j]` is true.

    Args:
        mask: bool [M, N].

    Raises TypeError unless it is bool (a float mask may mean logits), ValueError unless 2-D.
    """
    if mask.dtype is not torch.bool:
        raise TypeError(f"mask must be bool, true where attention is allowed, got {mask.dtype}")
    if mask.ndim != 2:
        raise ValueError(f"mask must be [targets, sources], got shape {tuple(mask.shape)}")
    return CSR.from_edges(mask.nonzero().T.flip(0), (mask.shape[0], mask.shape[1]))


def from_networkx(G: networkx.Graph) -> CSR:
    """The adjacency of a networkx graph, nodes numbered in the order of `G.nodes`.

    A directed arc u -> v lets v attend to u. An undirected edge runs both ways; those turned
    round come after all the others in the edge order. Parallel edges are coalesced. What nodes
    and edges carry is read by `networkx_values`. Raises TypeError for anything but a graph.
    """
    edges, _ = _arcs(G)
    return CSR.from_edges(edges, (len(G), len(G)))


def networkx_values(
    G: networkx.Graph, name: str, *, of: Literal["nodes", "edges"], default: float | None = None
) -> Tensor:
    """An attribute of a networkx graph, in the order of `from_networkx(G)`: [N, ...] or [E, ...].

    An undirected edge gives its value to both directions.

    Args:
        G: the graph.
        name: of the attribute; numbers, or sequences of them, all of one length.
        of: whose attribute it is.
        default: where the attribute is missing.

    Raises KeyError where it is missing without a default, ValueError where parallel edges differ,
    and for values that are no numbers or of several lengths.
    """
    if of not in ("nodes", "edges"):
        raise ValueError(f"of must be 'nodes' or 'edges', got {of!r}")
    edges, found = _arcs(G)
    if of == "nodes":
        found = [values for _, values in G.nodes(data=True)]
    missing = sum(name not in values for values in found)
    if missing and default is None:
        raise KeyError(f"{missing} of {len(found)} {of} have no {name!r}: give a default")
    values = [value.get(name, default) for value in found]
    try:
        listed = torch.tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name!r} of {of} must be numbers, or sequences of them of one length, got such as "
            f"{values[0]!r} ({error}): turn it into numbers first"
        ) from None
    return listed if of == "nodes" else edge_values(from_networkx(G), edges, listed)


def _arcs(G: networkx.Graph) -> tuple[Tensor, list[dict[str, Any]]]:
    """All arcs [2, E], undirected edges both ways, parallel ones apart, and what they carry."""
    if not hasattr(G, "is_directed"):
        raise TypeError(f"G must be a networkx graph, got {type(G).__name__}")
    number = {node: i for i, node in enumerate(G.nodes)}
    found = list(G.edges(data=True))
    edges = torch.tensor([(number[u], number[v]) for u, v, _ in found], dtype=torch.int64)
    edges, values = edges.reshape(-1, 2).T, [values for *_, values in found]
    if G.is_directed():
        return edges, values
    turned = edges[0] != edges[1]
    values += [value for value, other in zip(values, turned.tolist(), strict=True) if other]
    return torch.cat([edges, edges.flip(0)[:, turned]], dim=1), values


def batch(adjacencies: Sequence[Adjacency]) -> Adjacency:
    """The disjoint union: block-diagonal, nodes and edges numbered in the order given.

    Implicit adjacencies of one rule stay implicit, and unions of as many parts each stay unions.
    Raises ValueError for an empty sequence or several devices, TypeError for anything but
    adjacencies.
    """
    parts = list(adjacencies)
    if not parts:
        raise ValueError("adjacencies must hold at least one adjacency, got none")
    for part in parts:
        if not isinstance(part, Adjacency):
            raise TypeError(f"adjacencies must hold adjacencies, got {type(part).__name__}")
        if part.per_head:
            raise ValueError("adjacencies whose heads differ cannot be batched: batch first")
        if part.device != parts[0].device:
            raise ValueError(f"adjacencies must share a device: {part.device}, {parts[0].device}")
    first = parts[0]
    if isinstance(first, Implicit) and all(_same_rule(first, part) for part in parts):
        rule = first.with_blocks(tuple(b for part in parts for b in part.blocks))  # type: ignore[attr-defined]
        return replace(rule, parts=_batched_parts(parts))
    columns, targets, sources = [], 0, 0
    for part in parts:
        shift = torch.tensor([[sources], [targets]], device=part.device)
        columns.append(part.edge_index + shift)
        targets, sources = targets + part.shape[0], sources + part.shape[1]
    is_coalesced = all(part.is_coalesced for part in parts)
    edges = CSR.from_edges(torch.cat(columns, dim=1), (targets, sources), coalesce=is_coalesced)
    return replace(edges, inverse_index=_given(parts), parts=_batched_parts(parts))


def _batched_parts(adjacencies: list[Adjacency]) -> tuple[Adjacency, ...]:
    """The parts of all unions, the first with the first and so on; none if their numbers differ."""
    if len({len(adjacency.parts) for adjacency in adjacencies}) > 1:
        return ()
    return tuple(batch(each) for each in zip(*(a.parts for a in adjacencies), strict=True))


def _given(parts: list[Adjacency]) -> Tensor | None:
    """The callers' lists with their duplicates, end to end; None if no part has any."""
    lists = [getattr(part, "inverse_index", None) for part in parts]
    if all(given is None for given in lists):
        return None
    columns, before = [], 0
    for part, given in zip(parts, lists, strict=True):
        own = torch.arange(part.num_edges, device=part.device) if given is None else given
        columns.append(own + before)
        before += part.num_edges
    return torch.cat(columns)


def _same_rule(a: Implicit, b: Adjacency) -> bool:
    same = type(a) is type(b)
    return same and all(
        getattr(a, name) == getattr(b, name)
        for name in a.__dataclass_fields__
        if name not in ("blocks", "device", "parts")
    )


def _blocks(lengths: Lengths, source_lengths: Lengths | None) -> tuple[tuple[int, int], ...]:
    targets = _sizes("lengths", lengths)
    sources = targets if source_lengths is None else _sizes("source_lengths", source_lengths)
    if len(targets) != len(sources):
        raise ValueError(
            f"source_lengths must name as many samples as lengths, got {len(sources)} and "
            f"{len(targets)}"
        )
    return tuple(zip(targets, sources, strict=True))


def _sizes(name: str, lengths: Lengths) -> list[int]:
    if isinstance(lengths, Tensor) and lengths.ndim > 1:
        raise ValueError(f"{name} must be 1-D, got shape {tuple(lengths.shape)}")
    listed = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    sizes = listed if isinstance(listed, Sequence) else [listed]
    return [_count(name, size) for size in sizes]


def _count(name: str, value: object) -> int:
    """A whole number from zero up; numpy's and torch's integers are welcome, bools are not."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be whole numbers from 0 up, got {value!r}")
    return number


def _check_range(name: str, row: Tensor, size: int) -> None:
    if row.numel() and (row.min() < 0 or row.max() >= size):
        worst = int(row.max() if row.max() >= size else row.min())
        raise IndexError(
            f"edge_index names {name} {worst}, but num_nodes allows {name}s 0 to {size - 1}; "
            "pass the right num_nodes"
        )


def _device(value: object) -> torch.device:
    return value.device if isinstance(value, Tensor) else torch.device("cpu")
