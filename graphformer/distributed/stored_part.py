"""The part of a rank of a graph on disk: a range of its nodes, read from memory maps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.batch_type import Batch
from graphformer.data.base import SPLITS
from graphformer.data.graph.out_of_core.stores import StoredGraph, widen
from graphformer.distributed.mesh import DataParallel
from graphformer.distributed.partition import make_halo, rows_of_part
from graphformer.patterns import Edges, Pattern


def read_part(graph: StoredGraph, pattern: Pattern, ranks: DataParallel) -> Batch:
    """Return a rank's range of the nodes of a stored graph and the edges into them.

    The ranges have about equal work, one more than the number of edges for each node, and follow
    one another as the ranks do. Fields in float32 stay on disk, behind memory maps; a process reads
    nothing else of the graph than its own rows.

    Args:
        graph: on disk; its order should keep neighbours close, as that of `reorder_graph` does.
        pattern: of the attention, `Edges()` or `Edges(self_loops=True)`.
        ranks: all ranks; each must call this.

    Returns:
        What `partition_graph` returns.

    Raises:
        ValueError: for another pattern, and when the graph has no train, val or test nodes.
    """
    if not isinstance(pattern, Edges) or pattern.undirected:
        raise ValueError(
            f"adjacency: got {pattern}, expected Edges() or Edges(self_loops=True) for a graph on "
            "disk; store the edges of other adjacencies"
        )
    sources, indptr = graph.get_edge_index(None, "csc")
    bounds = equal_ranges(indptr, ranks.size)
    first, last = bounds[ranks.rank : ranks.rank + 2].tolist()
    edges = slice(int(indptr[first]), int(indptr[last]))
    count, degree = last - first, indptr[first : last + 1].long().diff()
    source, target = sources[edges].long(), torch.arange(count).repeat_interleave(degree)
    is_foreign = (source < first) | (source >= last)
    foreign = source[is_foreign].unique()  # ascending, so by rank
    source = torch.where(is_foreign, count + torch.searchsorted(foreign, source), source - first)
    local = Data(edge_index=torch.stack([source, target]), num_nodes=count + len(foreign))
    part = Batch()
    for attribute in graph.get_all_tensor_attrs():
        name = str(attribute.attr_name)
        rows = edges if "edge" in name else slice(first, last)
        part[name] = widen(graph.get_tensor(attribute.group_name, name, index=rows))
        if "edge" in name:
            local[name] = part[name]
    for split in SPLITS:
        part[f"{split}_mask"] = _mask(graph.split_nodes(split), first, last)
    part.edge_index, part.lengths = local.edge_index, (count,)
    part.nodes = torch.arange(first, last)
    owner = torch.searchsorted(bounds, foreign, right=True) - 1
    halo = make_halo(foreign, owner, ranks, lambda nodes: nodes - first)
    numbers = torch.arange(count + len(foreign))
    part.partition = rows_of_part(pattern(local), numbers < count, numbers, count, halo)
    return part


def equal_ranges(indptr: Tensor, parts: int) -> Tensor:
    """Return the first node of each range and N, int64 [parts + 1]; ranges have about equal work.

    Args:
        indptr: first edge of each node, [N + 1], perhaps a memory map, of which little is read.
        parts: number of ranges.
    """
    count = len(indptr) - 1
    total = int(indptr[-1]) + count
    bounds = [0]
    for part in range(1, parts):
        low, high = bounds[-1], count
        while low < high:  # the first node with the share of work before it
            middle = (low + high) // 2
            if int(indptr[middle]) + middle < total * part // parts:
                low = middle + 1
            else:
                high = middle
        bounds.append(low)
    return torch.tensor([*bounds, count])


def _mask(nodes: Tensor, first: int, last: int) -> Tensor:
    """Return which nodes of a range are among some nodes, bool [last - first]."""
    mask = torch.zeros(last - first, dtype=torch.bool)
    for part in nodes.split(1 << 20):  # of a memory map
        mask[part[(part >= first) & (part < last)] - first] = True
    return mask
