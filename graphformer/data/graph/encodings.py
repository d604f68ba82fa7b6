"""Structural encodings of graphs as PyG transforms: positions, distances and virtual nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from graphformer.data.graph.encoding_cache import cached_fields
from graphformer.data.graph.laplacian import laplacian_eigenvectors
from graphformer.deprecated import renamed_exports
from graphformer.nn.encodings import parse_encodings

EdgeIndex = NDArray[np.int64]


class Encoding(BaseTransform, ABC):
    """A transform that adds fields computed from the edges of a graph alone."""

    def forward(self, data: Data) -> Data:
        """Add the fields to a graph.

        Raises:
            TypeError: for a heterogeneous graph.
            ValueError: for an `edge_index` that names nodes out of range.
        """
        data.update(self.fields(_checked_edges(data), _num_nodes(data)))
        return data

    @abstractmethod
    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Return the fields of a graph with these edges, [2, E], and N nodes."""


class LaplacianEigenvectors(Encoding):
    """Adds `laplacian_pe` [N, k], the eigenvectors of `laplacian.laplacian_eigenvectors`.

    Signs are arbitrary: `nn.GraphEmbedding` flips them at random in training.

    Args:
        k: number of eigenvectors.
    """

    def __init__(self, k: int = 8) -> None:
        self.k = _positive("k", k)

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Return the eigenvectors as float32."""
        vectors = laplacian_eigenvectors(edge_index, num_nodes, self.k)
        return {"laplacian_pe": torch.from_numpy(vectors).float()}

    def __repr__(self) -> str:
        return f"LaplacianEigenvectors({self.k})"


class RandomWalk(Encoding):
    """Adds `random_walk_pe` [N, steps], the return probabilities of random walks of 1 .. steps.

    A step follows any out-edge of the node with the same probability; a walk ends at a node without
    out-edges and does not return. Equals PyG's `AddRandomWalkPE`, with memory linear in the nodes.

    Args:
        steps: the longest walk.

    Source: Dwivedi et al., 2022, "Graph neural networks with learnable structural and positional
    representations", section 3.1.
    """

    def __init__(self, steps: int = 16) -> None:
        self.steps = _positive("steps", steps)

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Return the probabilities as float32."""
        from graphformer.data.graph.kernels.traversal import (
            make_neighbor_lists,
            return_probabilities,
        )

        source, target = edge_index
        outgoing = make_neighbor_lists(source, target, num_nodes)
        incoming = make_neighbor_lists(target, source, num_nodes)
        probabilities = return_probabilities(outgoing, incoming, self.steps)
        return {"random_walk_pe": torch.from_numpy(probabilities).float()}

    def __repr__(self) -> str:
        return f"RandomWalk({self.steps})"


class Degree(Encoding):
    """Adds `in_degree` and `out_degree`, int64 [N]."""

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Return the number of edges to and from each node."""
        degrees = (np.bincount(row, minlength=num_nodes) for row in edge_index)
        outgoing, incoming = (torch.from_numpy(degree) for degree in degrees)
        return {"in_degree": incoming.long(), "out_degree": outgoing.long()}


class ShortestPaths(Encoding):
    """Adds the P ordered pairs of nodes at most `max_distance` = D steps apart, and their paths.

    `path_index`, int32 [D + 1, P], holds the nodes of one shortest path of each pair, from source
    to target; the target is repeated where the path is shorter. `path_length`, int32 [P], is its
    number of edges. Every node forms a pair with itself. PyG's batching adds node offsets to
    `path_index`, as to every field with "index" in its name.

    Args:
        max_distance: D.
        nodes: store whole paths; False stores sources and targets, [2, P], only.

    Source: Ying et al., 2021, section 3.1.2.
    """

    def __init__(self, max_distance: int = 5, *, nodes: bool = True) -> None:
        self.max_distance = _positive("max_distance", max_distance)
        self.nodes = nodes

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Return the paths found by one breadth-first search a node.

        Raises:
            ValueError: for more than 200 million pairs.
        """
        from graphformer.data.graph.kernels.traversal import make_neighbor_lists, shortest_paths

        source, target = edge_index
        outgoing = make_neighbor_lists(source, target, num_nodes)
        paths, lengths = shortest_paths(outgoing, self.max_distance, nodes=self.nodes)
        return {"path_index": torch.from_numpy(paths), "path_length": torch.from_numpy(lengths)}

    def __repr__(self) -> str:
        return f"ShortestPaths({self.max_distance}, nodes={self.nodes})"


class AddVirtualNode(BaseTransform):
    """Appends one node without edges, marked in `virtual_mask`, bool [N + 1].

    The pattern `VirtualNode` connects it to all nodes of its graph, both ways. Node fields of the
    data sets and encodings get a row of zeros; so do node labels and the masks of the splits, so
    that the virtual node is in none of them.
    """

    def forward(self, data: Data) -> Data:
        """Append the node."""
        nodes = _num_nodes(data)
        labels = ("y",) if "train_mask" in data else ()
        for name in (*_NODE_FIELDS, *labels):
            value = data.get(name)
            if isinstance(value, Tensor):
                data[name] = torch.cat([value, value.new_zeros(1, *value.shape[1:])])
        mask = torch.zeros(nodes + 1, dtype=torch.bool)
        mask[nodes] = True
        data.virtual_mask = mask
        data.num_nodes = nodes + 1
        if "lengths" in data:
            data.lengths = (nodes + 1,)
        return data


_NODE_FIELDS = (
    "x", "pos", "node_type", "laplacian_pe", "random_walk_pe", "in_degree", "out_degree",
    "train_mask", "val_mask", "test_mask",
)  # fmt: skip


def make_transforms(encodings: Sequence[str] | None) -> list[BaseTransform]:
    """Return the transforms of a list of names, see `parse_encodings`.

    Virtual nodes come last: the other encodings are of the graph without them.
    """
    numbers = parse_encodings(encodings)
    transforms: dict[str, BaseTransform] = {}
    for name, number in numbers.items():
        if name == "laplacian":
            transforms[name] = LaplacianEigenvectors(number)
        elif name == "random_walk":
            transforms[name] = RandomWalk(number)
        elif name == "degree":
            transforms[name] = Degree()
        elif name == "shortest_path":
            transforms[name] = ShortestPaths(number)
    if "virtual_node" in numbers:
        transforms["virtual_node"] = AddVirtualNode()
    return list(transforms.values())


def union_with_encodings(graphs: Sequence[Data], encodings: Sequence[str] | None) -> Data:
    """Return the disjoint union of graphs with encodings, as PyG's `Batch`; a single one as it is.

    Args:
        graphs: one or more, each a `Data`; not changed.
        encodings: names, see `parse_encodings`.

    Raises:
        ValueError: when there are no graphs, and as `add_encodings`.
    """
    if not graphs:
        raise ValueError("graphs: got none, expected one or more")
    encoded = add_encodings(graphs, encodings)
    if len(encoded) > 1:
        return Batch.from_data_list(encoded)
    encoded[0].lengths = (encoded[0].num_nodes,)
    return encoded[0]


def add_encodings(
    graphs: Sequence[Data], encodings: Sequence[str] | None, *, num_workers: int | None = None
) -> list[Data]:
    """Return copies of the graphs with encodings added; data sets call it after reading.

    Values are cached on disk by the content of the graphs. Slow encodings of many graphs are
    computed in parallel, with a progress bar.

    Args:
        graphs: whole graphs, each a `Data`; not changed.
        encodings: names, see `parse_encodings`.
        num_workers: number of processes; by default the number of cores, for slow encodings.

    Raises:
        ValueError: for an unknown encoding, and for an `edge_index` that names nodes out of range.
        TypeError: for a heterogeneous graph.
    """
    transforms = make_transforms(encodings)
    encoded = [copy(graph) for graph in graphs]
    inputs = [(_checked_edges(graph), _num_nodes(graph)) for graph in encoded] if transforms else []
    for transform in transforms:
        if isinstance(transform, Encoding):
            values = cached_fields(transform, inputs, num_workers)
            for graph, fields in zip(encoded, values, strict=True):
                graph.update(fields)
        else:
            encoded = [transform(graph) for graph in encoded]
    return encoded


def _checked_edges(data: Data) -> EdgeIndex:
    """Return the edges, int64 [2, E], checked: the kernels do not test for nodes out of range."""
    if hasattr(data, "to_homogeneous"):
        raise TypeError(
            f"data: got {type(data).__name__}, expected a graph with one type of nodes; pass "
            "data.to_homogeneous()"
        )
    edge_index = data.get("edge_index")
    if edge_index is None and data.get("adj_t") is not None:
        edge_index = _edges_of_adj_t(data.adj_t)
    if edge_index is None or not edge_index.numel():
        return np.empty((2, 0), dtype=np.int64)
    lowest, highest, nodes = int(edge_index.min()), int(edge_index.max()), _num_nodes(data)
    if lowest < 0 or highest >= nodes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"edge_index: got node {wrong}, expected nodes from 0 to {nodes - 1}; set num_nodes "
            "or correct the edges"
        )
    edges: EdgeIndex = edge_index.detach().cpu().numpy().astype(np.int64, copy=False)
    return edges


def _edges_of_adj_t(adj_t: Any) -> Tensor:
    """Return the edges [2, E] of PyG's transposed adjacency, a sparse tensor [targets, sources]."""
    if hasattr(adj_t, "coo"):  # a torch_sparse.SparseTensor
        target, source, _ = adj_t.coo()
    else:
        target, source = adj_t.to_sparse_coo().coalesce().indices()
    return torch.stack([source, target])


def _num_nodes(data: Data) -> int:
    return int(data.num_nodes or 0)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name}: got {value}, expected 1 or more")
    return value


__getattr__ = renamed_exports(__name__, {"encode": "add_encodings"})
