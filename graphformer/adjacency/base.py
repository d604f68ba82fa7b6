"""The adjacency type and its algebra: union, intersection, transpose, conversions, buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from graphformer.adjacency.cached_property import (
    cached_property,
    compute_uncached,
    is_constant_of_export,
    outside_inference_mode,
)
from graphformer.adjacency.checks import check_range
from graphformer.adjacency.multisets import combine_multisets
from graphformer.adjacency.to_networkx import to_networkx
from graphformer.deprecated import renamed_attribute

if TYPE_CHECKING:
    import networkx

    from graphformer.adjacency.csr import CSR


_computed_eagerly = torch.compiler.disable(
    reason="set operations of adjacencies have results of data-dependent size; make the adjacency "
    "outside of the compiled function, or compile without fullgraph=True"
)
"""Runs a function outside of the graph of torch.compile, in one break of it."""


class Adjacency:
    """Which of N sources each of M targets attends to.

    Edge e runs from source `edge_index[0, e]` to target `edge_index[1, e]`. Tensors aligned with
    edges follow the order of `edge_index`. Adjacencies are immutable; what they compute on first
    use (CSR, by-source order, masks) is cached.
    """

    shape: tuple[int, int]
    """(targets M, sources N)."""
    parts: tuple[Adjacency, ...] = ()
    """The operands of a union, all of this shape; see `part_mask`."""
    is_union_of_parts: bool = True
    """False if there are edges in none of the `parts`, such as self-loops added to a union."""
    is_coalesced: bool = True
    """False if an edge may occur several times; such an adjacency has no mask."""
    per_head: ClassVar[bool] = False
    """Whether heads have different edges (`HeadEdges`)."""

    kinds = renamed_attribute("part_mask")
    distinct = renamed_attribute("is_coalesced")
    of_heads = renamed_attribute("per_head")
    numbers = renamed_attribute("find_edges")

    # Implemented by the subclasses ---------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        raise NotImplementedError

    @property
    def num_edges(self) -> int:
        """The number of edges E."""
        raise NotImplementedError

    @property
    def T(self) -> Adjacency:  # noqa: N802 - torch's and numpy's name
        """The reversed edges: sources become targets."""
        raise NotImplementedError

    def to(self, device: torch.device | str) -> Adjacency:
        """Return this adjacency on `device`."""
        raise NotImplementedError

    def to_csr(self) -> CSR:
        """Return the edges stored by target."""
        raise NotImplementedError

    def _contains(self, target: Tensor, source: Tensor) -> Tensor:
        """`contains` for nodes that are known to be in range."""
        raise NotImplementedError

    # Shared by all ------------------------------------------------------------------------------

    def gather_sources(self, x: Tensor) -> Tensor | None:
        """Return the sources of targets x [M, C], [N, C], where some are on other processes.

        None, as here, if the sources are the targets.
        """
        return None

    @property
    def density(self) -> float:
        """The share of the M x N possible edges that is present; 0 for an empty shape."""
        targets, sources = self.shape
        return self.num_edges / (targets * sources) if targets and sources else 0.0

    @property
    def block_density(self) -> float:
        """The share of the possible edges within samples that is present."""
        return self.density

    @property
    def buckets(self) -> list[Bucket]:
        """The samples grouped by size; a single bucket where their sizes are not known."""
        return [Bucket(self, 1, self.shape, self.num_edges)]

    def bucket_mask(self, number: int) -> Tensor:
        """The dense mask of one sample of a bucket, bool [m, n]; cached, so it must not change."""
        return self.dense_mask

    @cached_property
    def edge_index(self) -> Tensor:
        """Sources and targets, int64 [2, E], PyG's convention."""
        csr = self.to_csr()
        by_target = torch.stack([csr.indices.long(), csr.target])
        return by_target if csr.edge_ids is None else by_target[:, csr.slots]

    def contains(self, target: Tensor, source: Tensor) -> Tensor:
        """Whether the edges source[e] -> target[e] are present; bool, [E].

        Raises:
            IndexError: when a node is out of range.
        """
        self._check_nodes(target, source)
        return self._contains(target, source)

    def find_edges(self, target: Tensor, source: Tensor) -> Tensor:
        """Return the ids of the edges source[e] -> target[e], int64 [E]; -1 for absent edges.

        The id of an edge is its column in `edge_index`; of a repeated edge, that of its first slot.

        Raises:
            IndexError: when a node is out of range.
        """
        self._check_nodes(target, source)
        return self.to_csr()._find_edges(target, source)

    def _check_nodes(self, target: Tensor, source: Tensor) -> None:
        check_range("target", target, self.shape[0])
        check_range("source", source, self.shape[1])

    @cached_property
    def part_mask(self) -> Tensor:
        """In which of its `parts` each edge is, bool [E, P]; all true, P = 1, without parts."""
        if not self.parts:
            return torch.ones(self.num_edges, 1, dtype=torch.bool, device=self.device)
        source, target = self.edge_index
        parts = (part.to(self.device) for part in self.parts)
        return torch.stack([part._contains(target, source) for part in parts], dim=1)

    def to_mask(self) -> Tensor:
        """Return the dense bool mask [M, N], true where target i attends to source j."""
        csr = self.to_csr()
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        mask[csr.target, csr.indices.long()] = True
        return mask

    @cached_property
    def dense_mask(self) -> Tensor:
        """The cached dense mask [M, N]; it must not be changed."""
        return self.to_mask()

    def to_networkx(
        self,
        *,
        nodes: Mapping[str, Tensor | Sequence] | None = None,
        edges: Mapping[str, Tensor | Sequence] | None = None,
    ) -> networkx.DiGraph:
        """Return a DiGraph with an arc source -> target for every edge.

        Repeated edges (`coalesce=False`) make it a MultiDiGraph. A square adjacency has nodes
        0 .. N-1. A bipartite one has its sources as nodes 0 .. N-1 (`bipartite=0`) and its targets
        as nodes N .. N+M-1 (`bipartite=1`).

        Args:
            nodes: node attributes by name, a value for each node.
            edges: edge attributes by name, such as attention weights, a value for each edge.

        Raises:
            ValueError: when the number of values is not that of the nodes or edges.
        """
        return to_networkx(
            self.edge_index, self.shape, self.is_coalesced, nodes=nodes or {}, edges=edges or {}
        )

    @_computed_eagerly
    def with_self_loops(self) -> Adjacency:
        """Add the missing edges i -> i, after all others in the edge order.

        Raises:
            ValueError: when the adjacency is not square.
        """
        targets, sources = self.shape
        if targets != sources:
            raise ValueError(
                f"shape: got {targets} targets and {sources} sources, expected as many of both for "
                "with_self_loops; add the edges with | instead"
            )
        nodes = torch.arange(targets, device=self.device)
        missing = nodes[~self._contains(nodes, nodes)]
        return self.to_csr().append(missing, missing) if len(missing) else self

    @_computed_eagerly
    def __or__(self, other: Adjacency) -> Adjacency:
        """The edges of either; `a | b | c` is `graphformer.adjacency.union([a, b, c])`."""
        merged = _merge((self, other))
        merged = replace(merged, parts=(*(self.parts or (self,)), *(other.parts or (other,))))
        if not (self.is_union_of_parts and other.is_union_of_parts):
            # Edges that an operand has in none of its parts are in none of the result's.
            merged = replace(merged.to_csr(), is_union_of_parts=False)
        return merged

    @_computed_eagerly
    @outside_inference_mode
    def __and__(self, other: Adjacency) -> Adjacency:
        """The edges of both; ordered by target, then source, unless one contains the other.

        If one of the two is a union, so is the result: (a | b) & c has the parts a & c and b & c.
        If both are, it has none.
        """
        _check_compatible(self, other)
        if self is other:
            return self
        both = _intersect(self, other)
        if self.parts and other.parts:
            return replace(both, parts=()) if both.parts else both
        if not (self.parts or other.parts):
            return both
        whole, factor = (self, other) if self.parts else (other, self)
        both = replace(both, parts=tuple(part & factor for part in whole.parts))
        if not whole.is_union_of_parts:
            both = replace(both.to_csr(), is_union_of_parts=False)
        return both

    def __getstate__(self) -> dict[str, Any]:
        """What pickles and copies contain: the fields, not what was computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def _compute(self, name: str) -> Any:
        """Compute a cached property and store it in `__dict__`, which Python looks up first."""
        value = compute_uncached(self, name)
        if is_constant_of_export(*vars(self).values()):
            return value
        object.__setattr__(self, name, value)  # adjacencies are frozen dataclasses
        return value

    def __repr__(self) -> str:
        targets, sources = self.shape
        return f"{type(self).__name__}({targets} x {sources}, {self.num_edges:,} edges)"


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of one size in a batch.

    `targets` and `sources` are the rows of its samples in the batch, sample by sample; None where
    the bucket is the whole batch.
    """

    block: Adjacency
    """The adjacency of one such sample."""
    count: int
    """The number of samples."""
    shape: tuple[int, int]
    """(targets m, sources n) of one sample."""
    num_edges: int
    """The edges of one sample."""
    kernel: Literal["complete", "causal"] | None = None
    """The name of the rule in dense attention kernels, None if they do not have it."""
    targets: Tensor | None = None
    sources: Tensor | None = None
    first_edges: Tensor | None = None
    """The id of each sample's first edge, [count]."""

    @property
    def edges(self) -> Tensor | None:
        """The ids of its samples' edges in the batch; not cached, as there may be N^2."""
        if self.first_edges is None:
            return None
        return consecutive_rows(self.first_edges, self.num_edges)


@_computed_eagerly
def union(adjacencies: Sequence[Adjacency]) -> Adjacency:
    """Return the edges of any of the adjacencies; `part_mask` says in which each edge is.

    Ordered by target, then source, unless one adjacency contains all others: then the result is
    that one, with parts. All edges are sorted once, whatever the number of parts, where
    `a | b | c` sorts them twice. An edge that is repeated in a part is repeated as often as in the
    part that has it most often.

    Args:
        adjacencies: of one shape, on one device.

    Raises:
        ValueError: when there are none, or several shapes or devices.
        TypeError: when one is not an adjacency.
    """
    parts = tuple(adjacencies)
    if not parts:
        raise ValueError("adjacencies: got none, expected at least one; pass a non-empty sequence")
    return replace(_merge(parts), parts=parts)


@outside_inference_mode
def _merge(parts: tuple[Adjacency, ...]) -> Any:
    """The edges of all parts, without `parts`."""
    for part in parts:
        _check_compatible(parts[0], part)
    if not all(part.is_coalesced for part in parts):
        return _combine_multisets(parts, "amax")
    largest = max(parts, key=lambda part: part.num_edges)
    extra = [_missing(part, largest) for part in parts if part is not largest]
    if any(edges.shape[1] for edges in extra):
        return _ordered(torch.cat([largest.edge_index, *extra], dim=1), largest)
    return largest


def _intersect(a: Adjacency, b: Adjacency) -> Any:
    """The edges of both; `parts` are those of the result's origin or none."""
    if not (a.is_coalesced and b.is_coalesced):
        return _combine_multisets((a, b), "amin")
    smaller, larger = sorted((a, b), key=lambda each: each.num_edges)
    csr = smaller.to_csr()
    present = larger._contains(csr.target, csr.indices.long())
    if present.all():
        return smaller
    return _ordered(torch.stack([csr.indices[present].long(), csr.target[present]]), a)


def _missing(part: Adjacency, whole: Adjacency) -> Tensor:
    """The edges [2, E'] of a part that are not in `whole`."""
    csr = part.to_csr()
    missing = ~whole._contains(csr.target, csr.indices.long())
    return torch.stack([csr.indices[missing].long(), csr.target[missing]])


def _ordered(edge_index: Tensor, like: Adjacency, *, coalesce: bool = True) -> CSR:
    """The CSR of the shape of `like` whose edges are ordered by target, then source."""
    return like.to_csr().from_edges(edge_index, like.shape, coalesce=coalesce).canonical()


def _combine_multisets(parts: tuple[Adjacency, ...], reduce: Literal["amax", "amin"]) -> Any:
    """The union (amax) or intersection (amin) of adjacencies with repeated edges.

    The result is a part itself where it has the same edges as that part.
    """
    edges = combine_multisets([part.edge_index for part in parts], parts[0].shape[1], reduce)
    return parts[edges] if isinstance(edges, int) else _ordered(edges, parts[0], coalesce=False)


def _check_compatible(a: Adjacency, b: Adjacency) -> None:
    """Refuse operands of | and & with different types, shapes or devices."""
    if not isinstance(b, Adjacency):
        raise TypeError(
            f"adjacencies: got {type(b).__name__}, expected an adjacency; make one with "
            "graphformer.from_edge_index or graphformer.from_mask"
        )
    if a.shape != b.shape:
        raise ValueError(
            f"adjacencies: got shapes {a.shape} and {b.shape}, expected one shape for | and &; "
            "build them for the same nodes"
        )
    if a.per_head or b.per_head:
        raise ValueError(
            "adjacencies: got edges that differ between heads, expected the same for all heads; "
            "combine the patterns of each head before PerHead"
        )
    if a.device != b.device:
        raise ValueError(
            f"adjacencies: got devices {a.device} and {b.device}, expected one device for | and &; "
            "move one with .to(device)"
        )


def transposed_parts(adjacency: Adjacency) -> tuple[Adjacency, ...]:
    """The parts of the transpose of a union."""
    return tuple(part.T for part in adjacency.parts)


def consecutive_rows(starts: Tensor, count: int) -> Tensor:
    """Row indices of all samples, [samples * count]: `count` consecutive ones from each start."""
    return (starts.unsqueeze(1) + torch.arange(count, device=starts.device)).flatten()
