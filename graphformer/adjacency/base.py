"""The adjacency type: who attends to whom, and the algebra that all kinds share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from graphformer.adjacency.cached_property import cached_property, compute_uncached
from graphformer.deprecated import renamed_attribute

if TYPE_CHECKING:
    import networkx

    from graphformer.adjacency.csr import CSR


class Adjacency:
    """Which of N sources each of M targets attends to.

    Edge e runs from source `edge_index[0, e]` to target `edge_index[1, e]`. Tensors aligned with
    edges follow the order of `edge_index`. An adjacency is immutable: what it computes on first
    need (CSR, by-source order) it keeps.
    """

    shape: tuple[int, int]
    """(targets M, sources N)."""
    parts: tuple[Adjacency, ...] = ()
    """What `graphformer.adjacency.union` made this of; see `part_mask`."""
    is_coalesced: bool = True
    """False if a source may appear in a row several times; such edges have no mask."""
    per_head: ClassVar[bool] = False
    """Whether some edges are there for some heads only."""

    kinds = renamed_attribute("part_mask")
    distinct = renamed_attribute("is_coalesced")
    of_heads = renamed_attribute("per_head")
    numbers = renamed_attribute("find_edges")

    # What the kinds supply ---------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the edges live."""
        raise NotImplementedError

    @property
    def num_edges(self) -> int:
        """The number of edges E, duplicates counted once."""
        raise NotImplementedError

    @property
    def T(self) -> Adjacency:  # noqa: N802 - torch's and numpy's name
        """The same edges turned round: sources become targets."""
        raise NotImplementedError

    def to(self, device: torch.device | str) -> Adjacency:
        """Return this adjacency on `device`; itself if it is there already."""
        raise NotImplementedError

    def to_csr(self) -> CSR:
        """Return the edges stored by target; made once and kept."""
        raise NotImplementedError

    def contains(self, target: Tensor, source: Tensor) -> Tensor:
        """Whether the edges source[e] -> target[e] are present; bool, [E]."""
        raise NotImplementedError

    # What all of them share --------------------------------------------------------------------

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
        """The samples gathered by size; all in one where their borders are not known."""
        return [Bucket(self, 1, self.shape, self.num_edges)]

    def bucket_mask(self, number: int) -> Tensor:
        """The dense mask of one sample of a bucket, bool [m, n]; kept, so not for writing."""
        return self.dense_mask

    @cached_property
    def edge_index(self) -> Tensor:
        """Sources and targets, int64 [2, E], PyG's convention."""
        csr = self.to_csr()
        by_target = torch.stack([csr.indices.long(), csr.target])
        return by_target if csr.edge_ids is None else by_target[:, csr.slots]

    def find_edges(self, target: Tensor, source: Tensor) -> Tensor:
        """The numbers of the edges source[e] -> target[e], int64; -1 for those that are absent."""
        return self.to_csr().find_edges(target, source)

    @cached_property
    def part_mask(self) -> Tensor:
        """Which of its `parts` each edge is in, bool [E, P]; all true, P = 1, if it has none."""
        if not self.parts:
            return torch.ones(self.num_edges, 1, dtype=torch.bool, device=self.device)
        source, target = self.edge_index
        parts = (part.to(self.device) for part in self.parts)
        return torch.stack([part.contains(target, source) for part in parts], dim=1)

    def to_mask(self) -> Tensor:
        """Return the dense bool mask [M, N], true where target i attends to source j."""
        csr = self.to_csr()
        mask = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        mask[csr.target, csr.indices.long()] = True
        return mask

    @cached_property
    def dense_mask(self) -> Tensor:
        """The dense mask, made once and kept; not for writing."""
        return self.to_mask()

    def to_networkx(
        self,
        *,
        nodes: Mapping[str, Tensor | Sequence] | None = None,
        edges: Mapping[str, Tensor | Sequence] | None = None,
    ) -> networkx.DiGraph:
        """Return a DiGraph with an arc source -> target for every edge.

        Edges that appear several times, kept apart by `coalesce=False`, make it a MultiDiGraph.
        A square adjacency has nodes 0 .. N-1. A bipartite one has its sources as nodes 0 .. N-1
        (`bipartite=0`) and its targets as nodes N .. N+M-1 (`bipartite=1`).

        Args:
            nodes: attributes of nodes by name, a value for each.
            edges: attributes of edges by name, such as attention weights, a value for each.

        Raises ValueError for another number of values than nodes or edges.
        """
        import networkx

        targets, sources = self.shape
        source, target = self.edge_index.tolist()
        graph = networkx.DiGraph() if self.is_coalesced else networkx.MultiDiGraph()
        if targets == sources:
            graph.add_nodes_from(range(sources))
        else:
            graph.add_nodes_from(range(sources), bipartite=0)
            graph.add_nodes_from(range(sources, sources + targets), bipartite=1)
            target = [sources + i for i in target]
        arcs: list[tuple[int, ...]] = list(zip(source, target, strict=True))
        keys = graph.add_edges_from(arcs)
        if not self.is_coalesced:
            arcs = [(*arc, key) for arc, key in zip(arcs, keys, strict=True)]
        for name, values in (nodes or {}).items():
            networkx.set_node_attributes(graph, _by_key(name, values, list(graph)), name)
        for name, values in (edges or {}).items():
            networkx.set_edge_attributes(graph, _by_key(name, values, arcs), name)
        return graph

    def with_self_loops(self) -> Adjacency:
        """Add the missing edges i -> i, after all others in the edge order.

        Raises ValueError unless the adjacency is square.
        """
        targets, sources = self.shape
        if targets != sources:
            raise ValueError(
                f"with_self_loops needs as many targets as sources, but the adjacency is "
                f"{targets} x {sources}; add the edges you mean with | instead"
            )
        nodes = torch.arange(targets, device=self.device)
        missing = nodes[~self.contains(nodes, nodes)]
        return self.to_csr().append(missing, missing) if len(missing) else self

    def __or__(self, other: Adjacency) -> Adjacency:
        """The edges of either; `a | b | c` is `graphformer.adjacency.union([a, b, c])`."""
        return joined(self, other)

    def __and__(self, other: Adjacency) -> Adjacency:
        """The edges of both; ordered by target, then source, unless one holds the other."""
        smaller, larger = self._by_size(other)
        csr = smaller.to_csr()
        present = larger.contains(csr.target, csr.indices.long())
        if present.all():
            return smaller
        both = torch.stack([csr.indices[present].long(), csr.target[present]])
        return _ordered(both, self)

    def _by_size(self, other: Adjacency) -> tuple[Adjacency, Adjacency]:
        if not isinstance(other, Adjacency):
            raise TypeError(f"| and & need two adjacencies, got {type(other).__name__}")
        if self.shape != other.shape:
            raise ValueError(
                f"| and & need adjacencies of one shape, got {self.shape} and {other.shape}"
            )
        if self.per_head or other.per_head:
            raise ValueError(
                "adjacencies whose heads differ cannot be combined: combine the patterns of each "
                "head first"
            )
        if self.device != other.device:
            raise ValueError(
                f"| and & need adjacencies on one device, got {self.device} and {other.device}; "
                "move one with .to(device)"
            )
        return (self, other) if self.num_edges <= other.num_edges else (other, self)

    def _compute(self, name: str) -> Any:
        value = compute_uncached(self, name)
        object.__setattr__(self, name, value)  # from now on before `kept`; adjacencies are frozen
        return value

    def __repr__(self) -> str:
        targets, sources = self.shape
        return f"{type(self).__name__}({targets} x {sources}, {self.num_edges:,} edges)"


def _by_key(name: str, values: Tensor | Sequence, keys: list[Any]) -> dict[Any, Any]:
    """An attribute's values by node or arc, as networkx wants them."""
    listed = values.tolist() if isinstance(values, Tensor) else list(values)
    if len(listed) != len(keys):
        raise ValueError(f"{name} must have {len(keys)} values, got {len(listed)}")
    return dict(zip(keys, listed, strict=True))


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of one size in a batch.

    `targets` and `sources` are the rows of its samples among those of the batch, sample by sample;
    None where the bucket is the whole batch.
    """

    block: Adjacency
    """The adjacency of one such sample."""
    count: int
    """How many samples there are."""
    shape: tuple[int, int]
    """(targets m, sources n) of one sample."""
    num_edges: int
    """The edges of one sample."""
    kernel: Literal["complete", "causal"] | None = None
    """The rule as dense attention kernels know it, if they do."""
    targets: Tensor | None = None
    sources: Tensor | None = None
    first_edges: Tensor | None = None
    """The number of each sample's first edge, [count]."""

    @property
    def edges(self) -> Tensor | None:
        """The edges of its samples among those of the batch; made anew, for there may be N^2."""
        if self.first_edges is None:
            return None
        return consecutive_rows(self.first_edges, self.num_edges)


def union(adjacencies: Sequence[Adjacency]) -> Adjacency:
    """The edges of any of the adjacencies; its `part_mask` tell which have each edge.

    Ordered by target, then source, unless one adjacency holds all others: then it is that one.
    Costs a sort of all edges, whatever the number of parts, where `a | b | c` costs two sorts.

    Args:
        adjacencies: of one shape, on one device.

    Raises ValueError for an empty sequence and for several shapes or devices, TypeError for
    anything but adjacencies.
    """
    parts = tuple(adjacencies)
    if not parts:
        raise ValueError("adjacencies must hold at least one adjacency, got none")
    return replace(_merge(parts), parts=parts)


def joined(a: Adjacency, b: Adjacency) -> Adjacency:
    """The union of two adjacencies; where one is a union itself, its parts become parts."""
    return replace(_merge((a, b)), parts=(*(a.parts or (a,)), *(b.parts or (b,))))


def _merge(parts: tuple[Adjacency, ...]) -> Any:
    """The edges of all parts, without the memory of what they came from."""
    for part in parts:
        parts[0]._by_size(part)  # checks types, shapes and devices
    largest = max(parts, key=lambda part: part.num_edges)
    extra = [_missing(part, largest) for part in parts if part is not largest]
    if any(edges.shape[1] for edges in extra):
        return _ordered(torch.cat([largest.edge_index, *extra], dim=1), largest)
    return largest


def _missing(part: Adjacency, whole: Adjacency) -> Tensor:
    """The edges [2, E'] of a part that the whole lacks."""
    csr = part.to_csr()
    missing = ~whole.contains(csr.target, csr.indices.long())
    return torch.stack([csr.indices[missing].long(), csr.target[missing]])


def _ordered(edge_index: Tensor, like: Adjacency) -> CSR:
    """The CSR of the shape of `like` whose edge order is by target, then source."""
    return like.to_csr().from_edges(edge_index, like.shape).canonical()


def consecutive_rows(starts: Tensor, count: int) -> Tensor:
    """Row indices of all samples, [samples * count]: `count` consecutive ones from each start."""
    return (starts.unsqueeze(1) + torch.arange(count, device=starts.device)).flatten()
