"""Constructors of adjacencies, with validation of their arguments."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from graphformer.adjacency.base import Adjacency
from graphformer.adjacency.cached_property import outside_inference_mode
from graphformer.adjacency.csr import CSR
from graphformer.adjacency.grid_edges import grid_edges
from graphformer.adjacency.implicit import Causal, Complete, Grid, Implicit, Window

Lengths = int | Sequence[int] | Tensor
"""Nodes per sample: an int, a sequence (or numpy array) of ints or a 1-D integer tensor."""


def complete(lengths: Lengths, source_lengths: Lengths | None = None) -> Complete:
    """Return the adjacency in which every target attends to every source of its sample.

    Args:
        lengths: targets per sample: an int, a sequence of ints or a 1-D integer tensor.
        source_lengths: sources per sample; the same as `lengths` by default.

    Raises:
        ValueError: when a length is negative, or the numbers of samples differ.
    """
    return Complete(_blocks(lengths, source_lengths), device=_device(lengths))


def causal(lengths: Lengths, source_lengths: Lengths | None = None) -> Causal:
    """Return the adjacency in which a target attends to sources up to its position.

    Targets and sources are aligned at the end. With as many sources as targets this is the lower
    triangle with its diagonal. With more sources (decoding with a cache) the last target attends to
    all of them. With fewer, the first targets attend to none.

    Args:
        lengths: targets per sample: an int, a sequence of ints or a 1-D integer tensor.
        source_lengths: sources per sample; the same as `lengths` by default.

    Raises:
        ValueError: when a length is negative, or the numbers of samples differ.
    """
    return Causal(_blocks(lengths, source_lengths), device=_device(lengths))


def window(lengths: Lengths, radius: int, causal: bool = False) -> Window:
    """Return the adjacency in which a node attends to nodes at most `radius` positions away.

    Args:
        lengths: nodes per sample: an int, a sequence of ints or a 1-D integer tensor.
        radius: the largest distance; 0 for self-loops only.
        causal: leave out later nodes.

    Raises:
        ValueError: when a length or the radius is negative.
    """
    radius = _count("radius", radius)
    return Window(_blocks(lengths, None), radius=radius, causal=causal, device=_device(lengths))


def grid(
    shapes: Sequence[int] | Sequence[Sequence[int]] | Tensor,
    radius: int | Sequence[int] = 1,
    causal: bool = False,
) -> Grid | CSR:
    """Return the adjacency in which a cell of a grid attends to its neighbourhood and itself.

    Cells are numbered row by row, the last axis first. A grid of pairs with one radius is implicit;
    others, such as (time, height, width) of videos, store their edges.

    Args:
        shapes: (height, width), or one such pair per sample, or an integer tensor [B, 2]; or with
            any other number of axes, the same for all samples.
        radius: the largest distance along every axis (Chebyshev distance), or one for each axis:
            (0, width) attends along rows, (height, 0) along columns.
        causal: leave out cells that are later along the first axis, such as time.

    Raises:
        ValueError: when `shapes` have different numbers of axes, `radius` has another number, or a
            size or a radius is negative.
    """
    device = _device(shapes)
    sizes = _grid_shapes(shapes)
    axes = len(sizes[0]) if sizes else 2
    if not isinstance(radius, Sequence):
        number = _count("radius", radius)
        if axes == 2 and not causal:
            return Grid(
                tuple((rows, columns) for rows, columns in sizes), radius=number, device=device
            )
        radius = (number,) * axes
    if len(radius) != axes:
        raise ValueError(
            f"radius: got {tuple(radius)}, expected one number, or one for each of the {axes} axes"
        )
    distances = [_count("radius", number) for number in radius]
    return grid_edges(sizes, distances, causal=causal, device=device)


def _grid_shapes(shapes: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> list[tuple[int, ...]]:
    """The sizes of each grid; a sequence of ints is one grid."""
    given = shapes.tolist() if hasattr(shapes, "tolist") else shapes
    if not isinstance(given, Sequence):
        raise ValueError(f"shapes: got {shapes!r}, expected (height, width) pairs; pass a list")
    if len(given) and not any(isinstance(size, Sequence | Tensor) for size in given):
        given = [given]
    sizes = []
    for shape in given:
        if not isinstance(shape, Sequence | Tensor) or not len(shape):
            raise ValueError(f"shapes: got {shape!r}, expected (height, width) pairs; pass a list")
        sizes.append(tuple(_count("shapes", size) for size in shape))
        if len(sizes[-1]) != len(sizes[0]):
            raise ValueError(
                f"shapes: got {shape!r} after {sizes[0]}, expected one number of axes; make a grid "
                "of each and join them by gf.batch"
            )
    return sizes


def from_edge_index(
    edge_index: Tensor,
    num_nodes: int | tuple[int, int],
    *,
    num_sources: int | None = None,
    coalesce: bool = True,
) -> CSR:
    """Return the adjacency of an edge list; duplicates are coalesced, no self-loops are added.

    Edge-aligned tensors (bias, edge_weight, returned weights) follow the order of these edges, of
    duplicates their first occurrence. Values may also be given for the whole list with its
    duplicates, if those of one edge are equal.

    Args:
        edge_index: integer [2, E], sources above targets, PyG's convention.
        num_nodes: the number of nodes; of a bipartite adjacency the number of targets, or the pair
            (targets, sources), the order of `Adjacency.shape`.
        num_sources: the number of sources of a bipartite adjacency. PyG's `size=(sources, targets)`
            is `num_nodes=targets, num_sources=sources`.
        coalesce: whether duplicates become one edge; else each has its own share of the softmax.

    Raises:
        TypeError: when the tensor does not hold integers.
        ValueError: when its shape is not [2, E], or a number of nodes is invalid or given twice.
        IndexError: when a node is out of range.
    """
    edges = edge_index
    if not torch.compiler.is_compiling():  # tracers have subclasses of their own
        edges = torch.as_tensor(edge_index).as_subclass(Tensor)
    if edges.dtype.is_floating_point or edges.dtype.is_complex or edges.dtype is torch.bool:
        raise TypeError(
            f"edge_index: got dtype {edges.dtype}, expected integers; convert it with .long()"
        )
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise ValueError(
            f"edge_index: got shape {tuple(edges.shape)}, expected [2, E]; transpose it"
        )
    return CSR.from_edges(edges.long(), _shape(num_nodes, num_sources), coalesce=coalesce)


def _shape(num_nodes: int | tuple[int, int], num_sources: int | None) -> tuple[int, int]:
    """(targets, sources) of the two forms in which they can be given."""
    if isinstance(num_nodes, Sequence):
        if num_sources is not None:
            raise ValueError(
                f"num_sources: got {num_sources} and num_nodes={num_nodes!r}, expected one of them "
                "for the sources; pass num_nodes=targets, num_sources=sources"
            )
        if len(num_nodes) != 2:
            raise ValueError(
                f"num_nodes: got {num_nodes!r}, expected a number or (targets, sources); pass "
                "num_nodes=targets, num_sources=sources"
            )
        targets, sources = num_nodes
    else:
        targets, sources = num_nodes, num_nodes if num_sources is None else num_sources
    name = "num_nodes" if num_sources is None else "num_sources"
    return _count("num_nodes", targets), _count(name, sources)


def from_mask(mask: Tensor) -> CSR:
    """Return the adjacency in which target i attends to source j where `mask[i, j]` is true.

    Args:
        mask: bool [M, N].

    Raises:
        TypeError: when it is not a bool tensor; a float mask may contain logits.
        ValueError: when it is not 2-D.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"mask: got {type(mask).__name__}, expected a bool tensor; convert it with "
            "torch.as_tensor"
        )
    if mask.dtype is not torch.bool:
        raise TypeError(
            f"mask: got dtype {mask.dtype}, expected bool, true where attention is allowed; "
            "convert it first, such as mask > 0"
        )
    if mask.ndim != 2:
        raise ValueError(
            f"mask: got shape {tuple(mask.shape)}, expected [targets, sources]; pass one mask"
        )
    return CSR.from_edges(mask.nonzero().T.flip(0), (mask.shape[0], mask.shape[1]))


@outside_inference_mode
def batch(adjacencies: Sequence[Adjacency]) -> Adjacency:
    """Return the disjoint union: block-diagonal, nodes and edges numbered in the given order.

    Implicit adjacencies of one rule stay implicit; unions with equally many parts stay unions.

    Raises:
        ValueError: when there are none, or several devices, or heads have different edges.
        TypeError: when it is not a sequence of adjacencies.
    """
    if isinstance(adjacencies, Adjacency):
        raise TypeError(
            f"adjacencies: got a single {type(adjacencies).__name__}, expected a sequence for "
            "batch; put it into a list"
        )
    blocks = list(adjacencies)
    _check_batch(blocks)
    first = blocks[0]
    if isinstance(first, Implicit) and all(_same_rule(first, block) for block in blocks):
        rule = first.with_blocks(tuple(size for block in blocks for size in block.blocks))  # type: ignore[attr-defined]
        return replace(rule, parts=_batch_parts(blocks))
    columns, targets, sources = [], 0, 0
    for block in blocks:
        shift = torch.tensor([[sources], [targets]], device=block.device)
        columns.append(block.edge_index + shift)
        targets, sources = targets + block.shape[0], sources + block.shape[1]
    is_coalesced = all(block.is_coalesced for block in blocks)
    edges = CSR.from_edges(torch.cat(columns, dim=1), (targets, sources), coalesce=is_coalesced)
    return replace(
        edges,
        inverse_index=_batch_inverse(blocks),
        parts=_batch_parts(blocks),
        is_union_of_parts=all(block.is_union_of_parts for block in blocks),
    )


def _check_batch(blocks: list[Adjacency]) -> None:
    if not blocks:
        raise ValueError("adjacencies: got none, expected at least one; pass a non-empty sequence")
    for block in blocks:
        if not isinstance(block, Adjacency):
            raise TypeError(
                f"adjacencies: got {type(block).__name__}, expected adjacencies; make them with "
                "graphformer.from_edge_index"
            )
        if block.per_head:
            raise ValueError(
                "adjacencies: got edges that differ between heads, expected the same for all "
                "heads; batch the adjacencies of each head before HeadEdges.of"
            )
        if block.device != blocks[0].device:
            raise ValueError(
                f"adjacencies: got devices {blocks[0].device} and {block.device}, expected one "
                "device; move them with .to(device)"
            )


def _batch_parts(blocks: list[Adjacency]) -> tuple[Adjacency, ...]:
    """The batches of the first parts, of the second parts, ...; none if their numbers differ."""
    if len({len(block.parts) for block in blocks}) > 1:
        return ()
    return tuple(batch(each) for each in zip(*(block.parts for block in blocks), strict=True))


def _batch_inverse(blocks: list[Adjacency]) -> Tensor | None:
    """The `inverse_index` of the concatenated edge lists; None if no list has duplicates."""
    inverses = [getattr(block, "inverse_index", None) for block in blocks]
    if all(inverse is None for inverse in inverses):
        return None
    columns, offset = [], 0
    for block, inverse in zip(blocks, inverses, strict=True):
        identity = torch.arange(block.num_edges, device=block.device)
        columns.append((identity if inverse is None else inverse) + offset)
        offset += block.num_edges
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
            f"source_lengths: got {len(sources)} samples, expected {len(targets)}, as in lengths; "
            "give one length for each sample"
        )
    return tuple(zip(targets, sources, strict=True))


def _sizes(name: str, lengths: Lengths) -> list[int]:
    if isinstance(lengths, Tensor) and lengths.ndim > 1:
        raise ValueError(f"{name}: got shape {tuple(lengths.shape)}, expected 1-D; flatten it")
    is_plain = isinstance(lengths, int | Sequence)  # the first test, as symbols lack hasattr
    numbers = lengths.tolist() if not is_plain and hasattr(lengths, "tolist") else lengths
    sizes = numbers if isinstance(numbers, Sequence) else [numbers]
    return [_count(name, size) for size in sizes]


def _count(name: str, value: object) -> int:
    """Convert an integer of Python, numpy or torch from 0 up to 2^62; bools are refused."""
    if isinstance(value, torch.SymInt):  # of torch.export with a dynamic size
        return value  # type: ignore[return-value]
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number <= 2**62 or isinstance(value, bool):
        raise ValueError(f"{name}: got {value!r}, expected an integer from 0 up; change it")
    return number


def _device(value: object) -> torch.device:
    return value.device if isinstance(value, Tensor) else torch.device("cpu")
