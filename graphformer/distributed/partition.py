"""The rows of one rank of a graph whose targets are divided among ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.adjacency import CSR, Adjacency, from_edge_index
from graphformer.batch_type import Batch, BatchLike
from graphformer.distributed.halo import Halo
from graphformer.distributed.mesh import DataParallel
from graphformer.patterns import Pattern


@dataclass(frozen=True, eq=False, repr=False)
class PartitionedCSR(CSR):
    """The rows of a rank's m targets; sources are these, then h nodes of other ranks: m x (m + h).

    Attention with this adjacency exchanges its sources once a layer.
    """

    halo: Halo | None = None

    def gather_sources(self, x: Tensor) -> Tensor | None:
        """Return the sources [m + h, C] of targets x [m, C]; None for a rank alone."""
        return None if self.halo is None else self.halo.extend(x)


class Partitioned(Pattern):
    """The adjacency of a batch of `PartitionedGraph`."""

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the rows of this rank, m x (m + h).

        Raises:
            ValueError: when the batch is no part of a graph.
        """
        rows: PartitionedCSR | None = getattr(batch, "partition", None)
        if rows is None:
            raise ValueError(
                f"adjacency: got Partitioned for a batch of {batch.num_nodes} nodes without rows, "
                "expected a part of a graph; use the data PartitionedGraph"
            )
        return rows


def partition_graph(graph: Data, adjacency: Adjacency, owner: Tensor, ranks: DataParallel) -> Batch:
    """Return the part of a rank: its nodes, the edges into them, and its rows of the adjacency.

    Args:
        graph: the whole graph; its fields by node and by edge are divided.
        adjacency: of the attention, N x N.
        owner: rank of each node, int64 [N].
        ranks: all ranks; each must call this.

    Returns:
        The fields of the m own nodes and of the edges into them, where `edge_index` numbers own
        nodes from 0 and the h nodes of other ranks from m; `partition`, the rows [m, m + h]; and
        `nodes`, the index in the graph of each own node, [m].
    """
    edges, data_edges = adjacency.edge_index, graph.edge_index
    is_own = owner == ranks.rank
    own = is_own.nonzero().flatten()
    data_inner = is_own[data_edges[1]]
    sources = torch.cat([edges[0, is_own[edges[1]]], data_edges[0, data_inner]])
    foreign = sources[~is_own[sources]].unique()
    foreign = foreign[owner[foreign].argsort(stable=True)]
    position = torch.full((len(owner),), -1, dtype=torch.int64)
    position[torch.cat([own, foreign])] = torch.arange(len(own) + len(foreign))
    halo = make_halo(foreign, owner[foreign], ranks, lambda nodes: position[nodes])
    part = _fields(graph, own, data_inner)
    part.edge_index = position[data_edges[:, data_inner]]
    part.nodes, part.lengths = own, (len(own),)
    part.partition = rows_of_part(adjacency, is_own, position, len(own), halo)
    return part


def rows_of_part(
    adjacency: Adjacency, is_own: Tensor, position: Tensor, count: int, halo: Halo | None
) -> PartitionedCSR:
    """Return the rows of own nodes of an adjacency, in the numbers of a part.

    Args:
        adjacency: of all nodes, N x N.
        is_own: bool [N].
        position: number in the part of own nodes, from 0, and of their sources, int64 [N].
        count: number of own nodes m.
        halo: what is exchanged.
    """
    edges = adjacency.edge_index
    inner = is_own[edges[1]]
    shape = (count, count + (0 if halo is None else sum(halo.receive_sizes)))
    rows = from_edge_index(position[edges[:, inner]], shape, coalesce=False)
    whole = adjacency.to_csr()
    columns = whole.inverse_index
    if columns is not None:  # repeated edges of the data are one edge of the adjacency
        columns = (inner.cumsum(0) - 1)[columns[inner[columns]]]
    return PartitionedCSR(
        rows.indptr,
        rows.indices,
        shape,
        rows.edge_ids,
        columns,
        is_coalesced=whole.is_coalesced,
        halo=halo,
    )


def _fields(graph: Data, own: Tensor, is_inner: Tensor) -> Batch:
    """Return the fields of the own nodes and of the edges into them."""
    part = Batch()
    for key, value in graph:
        if key == "edge_index" or not isinstance(value, Tensor):
            continue
        if graph.is_node_attr(key):
            part[key] = value[own]
        elif graph.is_edge_attr(key):
            part[key] = value[is_inner]
    return part


def make_halo(
    foreign: Tensor, owner: Tensor, ranks: DataParallel, find: Callable[[Tensor], Tensor]
) -> Halo | None:
    """Return what the ranks exchange; all ranks must call this. None for a rank alone.

    Args:
        foreign: the nodes of other ranks that this rank needs, by owner, int64 [h].
        owner: of each, [h].
        ranks: all ranks.
        find: returns the numbers in this rank's part of own nodes.
    """
    if ranks.size == 1:
        return None
    sizes = torch.bincount(owner, minlength=ranks.size).tolist()
    needed = ranks.gather_objects(foreign.split(sizes))
    sent = [by_owner[ranks.rank] for by_owner in needed]
    return Halo(ranks, find(torch.cat(sent)), [len(nodes) for nodes in sent], sizes)


def divide_nodes(adjacency: Adjacency, parts: int) -> Tensor:
    """Return a part for each node, int64 [N], with few edges between parts of about equal work.

    The work of a node is one more than its number of edges. The parts are METIS's if the package
    pymetis is installed; else ranges of the reverse Cuthill-McKee order, in which neighbours are
    close to one another.

    Source: Karypis and Kumar, 1998; Cuthill and McKee, 1969.
    """
    if parts == 1:
        return torch.zeros(adjacency.shape[0], dtype=torch.int64)
    indptr, indices = _neighbors(adjacency)
    work = adjacency.to_csr().indptr.numpy().astype(np.int64)
    work = np.diff(work) + 1
    if find_spec("pymetis") is not None:
        return _metis(indptr, indices, work, parts)
    order = _bandwidth_order(indptr, indices)
    before = work[order].cumsum() - work[order]
    owner = np.empty(len(order), np.int64)
    owner[order] = before * parts // work.sum()
    return torch.from_numpy(owner)


def order_nodes(adjacency: Adjacency) -> Tensor:
    """Return the nodes in an order in which neighbours are close to one another, int64 [N].

    Source: Cuthill and McKee, 1969 (in reverse order).
    """
    return torch.from_numpy(_bandwidth_order(*_neighbors(adjacency)))


def _neighbors(adjacency: Adjacency) -> tuple[np.ndarray, np.ndarray]:
    """Return row starts and neighbours of the edges in both directions."""
    undirected = (adjacency | adjacency.T).to_csr()
    return undirected.indptr.numpy(), undirected.indices.numpy()


def _metis(indptr: np.ndarray, indices: np.ndarray, work: np.ndarray, parts: int) -> Tensor:
    import pymetis

    neighbors = pymetis.CSRAdjacency(indptr, indices)
    _, owner = pymetis.part_graph(parts, neighbors, vweights=work)
    return torch.tensor(owner, dtype=torch.int64)


def _bandwidth_order(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    matrix = csr_matrix((np.ones(len(indices), np.int8), indices, indptr))
    return reverse_cuthill_mckee(matrix, symmetric_mode=True).astype(np.int64)
