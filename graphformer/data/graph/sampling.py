"""Subgraphs of graphs that are too large for one batch: sampled neighbourhoods, random clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.adjacency import CSR, Adjacency
from graphformer.batch_type import Batch
from graphformer.data.graph.out_of_core.stores import StoredGraph, read_fields


class SampledSubgraph(NamedTuple):
    """A part of a graph with n nodes and e edges; its nodes are renumbered from 0.

    A slot is the index of an edge in the CSR arrays of the adjacency. The nodes are in the order in
    which they were reached, seeds first; in a disjoint sample they are grouped by seed, each seed
    before the nodes reached from it.
    """

    nodes: Tensor
    """Index in the graph of each node, int64 [n]."""
    edge_index: Tensor
    """Source and target of each edge, in new numbers, int64 [2, e]."""
    slots: Tensor
    """Slot of each edge, int64 [e]."""
    root: Tensor | None
    """Which seed each node was reached from, int64 [n], ascending; None unless disjoint."""
    num_nodes: list[int]
    """Number of seeds, and of the nodes added by each hop."""
    num_edges: list[int]
    """Number of edges added by each hop."""


def sample_neighbors(
    adjacency: Adjacency,
    seeds: Tensor,
    fanouts: Sequence[int],
    *,
    replace: bool = False,
    disjoint: bool = False,
    roots: Tensor | None = None,
    seed: int = 0,
) -> SampledSubgraph:
    """Sample in-neighbours of nodes, then in-neighbours of those, one hop for each layer.

    The draws of a node depend on `seed` and the node (and its root, if disjoint) only, so the same
    call returns the same sample. With equal fan-outs, what reaches a seed within as many hops is
    the same whichever other seeds are sampled with it.

    Args:
        adjacency: square, N nodes.
        seeds: distinct nodes, int64 [B]; with `disjoint` they may repeat.
        fanouts: number of neighbours to draw in each hop; -1 for all.
        replace: draw with replacement.
        disjoint: sample a separate neighbourhood for each seed, without shared nodes.
        roots: number of each seed in the draws of a disjoint sample, int64 [B]; else its index.
        seed: random seed, 0 or more.

    Returns:
        The sample. In-edges of a node are drawn in the hop after the one that reached it, so the
        nodes of the last hop have none.

    Raises:
        ValueError: when the adjacency is not square, a fan-out is below -1, or a seed repeats.
        IndexError: when a seed is out of range.
        TypeError: when seeds or fan-outs are not integers.

    Source: Hamilton et al., 2017 (GraphSAGE), algorithm 2.
    """
    # Imported here: numba takes a second to import, and only samplers need it.
    from graphformer.data.graph.kernels import sampling as kernels

    _check(adjacency, seeds, fanouts, disjoint=disjoint)
    adjacency = adjacency.to_csr()
    indptr, indices = adjacency.indptr.numpy(), adjacency.indices.numpy()
    nodes = seeds.numpy().astype(np.int64)
    root = np.arange(len(nodes)) if disjoint else np.zeros(len(nodes), dtype=np.int64)
    stream = root if roots is None else roots.numpy()  # of the draws of each root
    # A node is known by (root, node): the same node in two disjoint neighbourhoods is two nodes.
    table = _NodeTable()
    table.index(root * adjacency.shape[0] + nodes, 0)
    hops: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    num_nodes, num_edges, start = [len(nodes)], [], 0
    for fanout in fanouts:
        frontier, own_root = nodes[start:], root[start:]
        counts = _draw_counts(indptr, frontier, fanout, replace=replace)
        streams = stream[own_root] if disjoint else own_root
        slots = kernels.draw_neighbors(indptr, frontier, streams, counts, replace, seed)
        sources = indices[slots].astype(np.int64)
        source_root = own_root.repeat(counts)
        local, is_new = table.index(source_root * adjacency.shape[0] + sources, len(nodes))
        hops.append((local, np.arange(start, len(nodes)).repeat(counts), slots))
        start = len(nodes)
        nodes = np.concatenate([nodes, sources[is_new]])
        root = np.concatenate([root, source_root[is_new]])
        num_nodes.append(len(nodes) - start)
        num_edges.append(len(slots))
    source, target, slot = (
        np.concatenate([columns[i] for columns in hops]) if hops else np.empty(0, np.int64)
        for i in range(3)
    )
    edge_index = np.stack([source, target])
    if disjoint:  # one block of nodes a seed, as a batch of graphs has
        order = np.argsort(root, kind="stable")
        nodes, root, edge_index = nodes[order], root[order], np.argsort(order)[edge_index]
    return SampledSubgraph(
        torch.from_numpy(nodes),
        torch.from_numpy(edge_index),
        torch.from_numpy(slot),
        torch.from_numpy(root) if disjoint else None,
        num_nodes,
        num_edges,
    )


def induced_subgraph(adjacency: Adjacency, nodes: Tensor) -> SampledSubgraph:
    """Return some nodes with all edges between them, for training on clusters.

    Args:
        adjacency: square, N nodes.
        nodes: distinct nodes, int64 [n].

    Raises:
        ValueError: when the adjacency is not square, or a node repeats.
        IndexError: when a node is out of range.

    Source: Chiang et al., 2019 (Cluster-GCN), with random clusters instead of METIS's.
    """
    from graphformer.data.graph.kernels import sampling as kernels

    _check(adjacency, nodes, [], disjoint=False)
    adjacency = adjacency.to_csr()
    local = np.full(adjacency.shape[0], -1, dtype=np.int32)
    chosen = nodes.numpy().astype(np.int64)
    local[chosen] = np.arange(len(chosen), dtype=np.int32)
    source, target, slots = kernels.induced_edges(
        adjacency.indptr.numpy(), adjacency.indices.numpy(), chosen, local
    )
    edge_index = torch.from_numpy(np.stack([source, target]))
    return SampledSubgraph(
        nodes, edge_index, torch.from_numpy(slots), None, [len(chosen)], [len(slots)]
    )


def extract_subgraph(graph: Data | StoredGraph, adjacency: CSR, sample: SampledSubgraph) -> Batch:
    """Return a batch of the sampled nodes and edges with their attributes, as PyG's loaders do.

    Node attributes [N, ...] and edge attributes [E, ...] are indexed; others are left out. Added
    are `n_id` [n] and `e_id` [e], the indices of nodes and edges in the graph; `batch_size`, the
    number of seeds; `num_sampled_nodes` and `num_sampled_edges` by hop. A disjoint sample is a
    batch of B samples: it has `batch` [n] and `ptr` [B + 1], and its seeds are the first nodes of
    the samples; otherwise seeds are the first nodes, and `lengths` is (n,).

    Args:
        graph: with `edge_index` [2, E], or a stored graph.
        adjacency: that of `edge_index`, made with `coalesce=False`; that of the stored graph.
        sample: drawn from `adjacency`.

    Raises:
        ValueError: when the adjacency has merged duplicate edges, so that the edges of `edge_index`
            cannot be identified.
    """
    if adjacency.inverse_index is not None:
        raise ValueError(
            "adjacency: got one with merged duplicate edges, expected one edge for each column of "
            "edge_index; make it by from_edge_index(..., coalesce=False)"
        )
    edge_ids = sample.slots if adjacency.edge_ids is None else adjacency.edge_ids[sample.slots]
    part = Batch(edge_index=sample.edge_index, n_id=sample.nodes, e_id=edge_ids)
    if isinstance(graph, Data):
        part.update(_fields(graph, sample.nodes, edge_ids))
    else:
        part.update(read_fields(graph, sample.nodes, edge_ids))
    part.num_nodes = len(sample.nodes)
    part.batch_size = sample.num_nodes[0]
    part.num_sampled_nodes, part.num_sampled_edges = sample.num_nodes, sample.num_edges
    if sample.root is None:
        part.lengths = (len(sample.nodes),)
    else:
        lengths = sample.root.bincount(minlength=part.batch_size)
        part.lengths = tuple(lengths.tolist())
        part.ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        part.batch = sample.root
    return part


def _fields(graph: Data, nodes: Tensor, edge_ids: Tensor) -> dict[str, Tensor]:
    """Return the fields of some nodes and edges of a graph in memory."""
    num_nodes, num_edges = graph.num_nodes, graph.edge_index.shape[1]
    found: dict[str, Tensor] = {}
    for name, value in graph:
        if name == "edge_index" or not isinstance(value, Tensor) or value.ndim == 0:
            continue
        if graph.is_edge_attr(name) and len(value) == num_edges:
            found[name] = value[edge_ids]
        elif len(value) == num_nodes:
            found[name] = value[nodes]
    return found


def _check(adjacency: Adjacency, seeds: Tensor, fanouts: Sequence[int], *, disjoint: bool) -> None:
    targets, sources = adjacency.shape
    if targets != sources:
        raise ValueError(
            f"adjacency: got {targets} targets and {sources} sources, expected a square one"
        )
    integers = isinstance(fanouts, Sequence) and all(
        isinstance(n, int | np.integer) for n in fanouts
    )
    if not integers:
        raise TypeError(f"fanouts: got {fanouts!r}, expected a sequence of integers, one a layer")
    if seeds.is_floating_point() or seeds.dtype is torch.bool:
        raise TypeError(
            f"seeds: got {seeds.dtype}, expected node indices; for a mask pass "
            "mask.nonzero().flatten()"
        )
    if any(fanout < -1 for fanout in fanouts):
        raise ValueError(f"fanouts: got {list(fanouts)}, expected -1 (all) or more")
    if len(seeds) and not 0 <= int(seeds.min()) <= int(seeds.max()) < targets:
        raise IndexError(
            f"seeds: got {seeds.tolist()[:9]}, expected node indices from 0 to {targets - 1}"
        )
    if not disjoint and len(seeds.unique()) != len(seeds):
        raise ValueError(
            "seeds: got repeated nodes, expected distinct ones; remove the copies or set "
            "disjoint=True"
        )


def _draw_counts(
    indptr: np.ndarray, nodes: np.ndarray, fanout: int, *, replace: bool
) -> np.ndarray:
    """Return the number of draws for each node, [n]: the fan-out, or its degree if that is less."""
    degree = (indptr[nodes + 1] - indptr[nodes]).astype(np.int64)
    if fanout < 0:
        return degree
    return np.where(degree > 0, fanout, 0) if replace else np.minimum(degree, fanout)


class _NodeTable:
    """A growing hash table from node keys to local indices, in order of first appearance."""

    def __init__(self) -> None:
        self.keys, self.values = _empty_table(1)
        self.count = 0

    def index(self, keys: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the local index [k] of each key, new ones from `first` on, and which are new."""
        from graphformer.data.graph.kernels import sampling as kernels

        capacity = 2 * (self.count + len(keys))  # at most half full: short probe sequences
        if capacity > len(self.keys):
            used = self.values >= 0
            old_keys, old_values = self.keys[used], self.values[used]
            self.keys, self.values = _empty_table(capacity)
            kernels.rehash(self.keys, self.values, old_keys, old_values)
        local, is_new = kernels.insert_keys(self.keys, self.values, keys, first)
        self.count += int(is_new.sum())
        return local, is_new


def _empty_table(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and values of an empty table whose capacity is a power of two, `size` or more."""
    capacity = 1 << max(4, int(size - 1).bit_length())
    return np.zeros(capacity, dtype=np.int64), np.full(capacity, -1, dtype=np.int64)
