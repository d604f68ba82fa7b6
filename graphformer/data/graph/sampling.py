"""Parts of a graph that does not fit: sampled neighbourhoods, and random clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.adjacency import CSR, Adjacency


class SampledSubgraph(NamedTuple):
    """A part of a graph, its nodes numbered anew.

    nodes [n]: their numbers in the graph, seeds first; edge_index [2, e]: sources above targets, in
    new numbers; slots [e]: the place of each edge in the CSR; root [n]: the seed that each node was
    reached from, where seeds are kept apart, else None; num_nodes, num_edges: how many came with
    each hop, the seeds being the first of `num_nodes`.
    """

    nodes: Tensor
    edge_index: Tensor
    slots: Tensor
    root: Tensor | None
    num_nodes: list[int]
    num_edges: list[int]


def sample_neighbors(
    adjacency: Adjacency,
    seeds: Tensor,
    fanouts: Sequence[int],
    *,
    replace: bool = False,
    disjoint: bool = False,
    seed: int = 0,
) -> SampledSubgraph:
    """Draw the in-neighbours of nodes, then theirs, and so on: what a deep network reads for them.

    The draws of a node depend on `seed`, the hop and the node alone (and on its seed, if
    `disjoint`), so that the same call gives the same sample, whatever ran before.

    Args:
        adjacency: square, N nodes.
        seeds: distinct nodes, int64 [B] (with `disjoint` they may repeat).
        fanouts: how many neighbours to draw in each hop, one a layer; -1 for all.
        replace: whether a neighbour may be drawn twice.
        disjoint: give each seed a neighbourhood of its own, so that none shares nodes.
        seed: of the draws, from 0 up.

    Returns:
        The sample. All edges into a node are drawn in the hop after the one that reached it, so
        nodes of the last hop have none.

    Raises:
        ValueError: the adjacency is not square, a fan-out is below -1 or a seed comes twice.
        IndexError: a seed is no node.
        TypeError: seeds or fan-outs are no whole numbers.

    Source: Hamilton et al., 2017 (GraphSAGE).
    """
    from graphformer.data.graph.kernels import (
        sampling as kernels,  # numba takes its time, and few need it
    )

    _check(adjacency, seeds, fanouts, disjoint=disjoint)
    adjacency = adjacency.to_csr()
    indptr, indices = adjacency.indptr.numpy(), adjacency.indices.numpy()
    nodes = seeds.numpy().astype(np.int64)
    root = np.arange(len(nodes)) if disjoint else np.zeros(len(nodes), dtype=np.int64)
    table = _Table()
    table.number(root * adjacency.shape[0] + nodes, 0)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    num_nodes, num_edges, start = [len(nodes)], [], 0
    for hop, fanout in enumerate(fanouts):
        frontier, roots = nodes[start:], root[start:]
        counts = _counts(indptr, frontier, fanout, replace=replace)
        slots = kernels.draw_neighbors(
            indptr, frontier, roots, counts, replace, np.array([seed, hop])
        )
        sources = indices[slots].astype(np.int64)
        source_root = roots.repeat(counts)
        found, is_new = table.number(source_root * adjacency.shape[0] + sources, len(nodes))
        parts.append((found, np.arange(start, len(nodes)).repeat(counts), slots))
        start = len(nodes)
        nodes = np.concatenate([nodes, sources[is_new]])
        root = np.concatenate([root, source_root[is_new]])
        num_nodes.append(len(nodes) - start)
        num_edges.append(len(slots))
    source, target, slot = (
        np.concatenate([part[i] for part in parts]) if parts else np.empty(0, np.int64)
        for i in range(3)
    )
    return SampledSubgraph(
        torch.from_numpy(nodes),
        torch.from_numpy(np.stack([source, target])),
        torch.from_numpy(slot),
        torch.from_numpy(root) if disjoint else None,
        num_nodes,
        num_edges,
    )


def induced_subgraph(adjacency: Adjacency, nodes: Tensor) -> SampledSubgraph:
    """The edges among some nodes: with a random part of all nodes, a cluster to train on.

    Args:
        adjacency: square, N nodes.
        nodes: distinct ones, int64 [n].

    Source: Chiang et al., 2019 (Cluster-GCN), with random clusters in place of METIS's.
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


def extract_subgraph(graph: Data, adjacency: CSR, sample: SampledSubgraph) -> Data:
    """The sampled part of a graph, as PyG's loaders give it.

    Every attribute of a node, [N, ...], and of an edge, [E, ...], goes along. `n_id` [n] and `e_id`
    [e] are the numbers in the graph of its nodes and edges, `batch_size` is the number of seeds,
    which come first, and `batch` [n] the seed of each node, if the sample is disjoint.
    """
    num_nodes, num_edges = adjacency.shape[0], graph.edge_index.shape[1]
    if adjacency.inverse_index is not None:
        raise ValueError(
            "adjacency was made of edges with duplicates, which it counts once, so its edges are "
            "not numbered as the graph's: make it with coalesce=False"
        )
    edge_ids = sample.slots if adjacency.edge_ids is None else adjacency.edge_ids[sample.slots]
    part = Data(edge_index=sample.edge_index, n_id=sample.nodes, e_id=edge_ids)
    for name, value in graph:
        if name == "edge_index" or not isinstance(value, Tensor) or value.ndim == 0:
            continue
        if graph.is_edge_attr(name) and len(value) == num_edges:
            part[name] = value[edge_ids]
        elif len(value) == num_nodes:
            part[name] = value[sample.nodes]
    part.num_nodes = len(sample.nodes)
    part.lengths = (len(sample.nodes),)
    part.batch_size = sample.num_nodes[0]
    part.num_sampled_nodes, part.num_sampled_edges = sample.num_nodes, sample.num_edges
    if sample.root is not None:
        part.batch = sample.root
    return part


def _check(adjacency: Adjacency, seeds: Tensor, fanouts: Sequence[int], *, disjoint: bool) -> None:
    targets, sources = adjacency.shape
    if targets != sources:
        raise ValueError(f"adjacency must be square to be sampled, got {targets} x {sources}")
    numbers = isinstance(fanouts, Sequence) and all(
        isinstance(n, int | np.integer) for n in fanouts
    )
    if not numbers:
        raise TypeError(f"fanouts must be whole numbers, one a layer, got {fanouts!r}")
    if seeds.is_floating_point() or seeds.dtype is torch.bool:
        raise TypeError(
            f"seeds must be the numbers of nodes, got {seeds.dtype}; of a mask take "
            "mask.nonzero().flatten()"
        )
    if any(fanout < -1 for fanout in fanouts):
        raise ValueError(f"fanouts must be -1 (all) or more, got {list(fanouts)}")
    if len(seeds) and not 0 <= int(seeds.min()) <= int(seeds.max()) < targets:
        raise IndexError(f"seeds must be nodes from 0 to {targets - 1}, got {seeds.tolist()[:9]}")
    if not disjoint and len(seeds.unique()) != len(seeds):
        raise ValueError("seeds must be distinct: drop the repeated ones, or set disjoint=True")


def _counts(indptr: np.ndarray, nodes: np.ndarray, fanout: int, *, replace: bool) -> np.ndarray:
    degree = (indptr[nodes + 1] - indptr[nodes]).astype(np.int64)
    if fanout < 0:
        return degree
    return np.where(degree > 0, fanout, 0) if replace else np.minimum(degree, fanout)


class _Table:
    """Numbers for keys, in the order in which they come first: a hash table that grows."""

    def __init__(self) -> None:
        self.keys, self.values = _empty_table(1)
        self.count = 0

    def number(self, keys: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The number [k] of each key, new ones counted on from `first`; and which are new [k]."""
        from graphformer.data.graph.kernels import sampling as kernels

        needed = 2 * (self.count + len(keys))
        if needed > len(self.keys):
            old = self.values >= 0
            old_keys, old_values = self.keys[old], self.values[old]
            self.keys, self.values = _empty_table(needed)
            kernels.rehash(self.keys, self.values, old_keys, old_values)
        numbers, is_new = kernels.insert_keys(self.keys, self.values, keys, first)
        self.count += int(is_new.sum())
        return numbers, is_new


def _empty_table(size: int) -> tuple[np.ndarray, np.ndarray]:
    capacity = 1 << max(4, int(size - 1).bit_length())
    return np.zeros(capacity, dtype=np.int64), np.full(capacity, -1, dtype=np.int64)
