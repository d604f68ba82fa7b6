"""Encodings of graphs as PyG transforms: where nodes are, how far apart, and a virtual node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from graphformer.data.graph.encoding_cache import cached_fields
from graphformer.data.graph.kernels.laplacian import laplacian_eigenvectors
from graphformer.nn.encodings import parse_encodings

EdgeIndex = NDArray[np.int64]


class Encoding(BaseTransform, ABC):
    """A transform that adds fields made of a graph's edges alone."""

    def forward(self, data: Data) -> Data:
        """Add the fields to a graph."""
        data.update(self.fields(_edges(data), _num_nodes(data)))
        return data

    @abstractmethod
    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """What is added to a graph with these edges, [2, E]."""


class LaplacianEigenvectors(Encoding):
    """Adds `laplacian_pe` [N, k], see `kernels.laplacian.laplacian_eigenvectors`.

    Networks flip the signs at random in training, as none is the right one.
    """

    def __init__(self, k: int = 8) -> None:
        self.k = _positive("k", k)

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """The eigenvectors as float32."""
        vectors = laplacian_eigenvectors(edge_index, num_nodes, self.k)
        return {"laplacian_pe": torch.from_numpy(vectors).float()}

    def __repr__(self) -> str:
        return f"LaplacianEigenvectors({self.k})"


class RandomWalk(Encoding):
    """Adds `random_walk_pe` [N, steps]: how likely a random walk is back after 1, 2, ... steps.

    A step takes any of a node's edges with the same probability; from a node without edges the
    walk never comes back. Equals PyG's `AddRandomWalkPE`, with memory linear in the nodes.

    Source: Dwivedi et al., 2022, "Graph neural networks with learnable structural and positional
    representations", section 3.1.
    """

    def __init__(self, steps: int = 16) -> None:
        self.steps = _positive("steps", steps)

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """The probabilities as float32."""
        from graphformer.data.graph.kernels.traversal import (
            make_neighbor_lists,
            return_probabilities,
        )

        source, target = edge_index
        outgoing = make_neighbor_lists(source, target, num_nodes)
        incoming = make_neighbor_lists(target, source, num_nodes)
        back = return_probabilities(outgoing, incoming, self.steps)
        return {"random_walk_pe": torch.from_numpy(back).float()}

    def __repr__(self) -> str:
        return f"RandomWalk({self.steps})"


class Degree(Encoding):
    """Adds `in_degree` and `out_degree`, int64 [N]."""

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """How many edges lead to and from each node."""
        degrees = (np.bincount(row, minlength=num_nodes) for row in edge_index)
        outgoing, incoming = (torch.from_numpy(degree) for degree in degrees)
        return {"in_degree": incoming.long(), "out_degree": outgoing.long()}


class ShortestPaths(Encoding):
    """Adds the pairs of nodes at most `max_distance` steps apart, and how far apart they are.

    `path_index`, int32 [D + 1, P], holds a shortest path of each pair from its source to its
    target, which is repeated where the path is shorter; with `nodes` false [2, P], only its ends.
    `path_length`, int32 [P], is its length. Every node is a pair with itself. PyG batches these
    fields right, as it does all whose name has "index" in it.

    Source: Ying et al., 2021, section 3.1.2.
    """

    def __init__(self, max_distance: int = 5, *, nodes: bool = True) -> None:
        self.max_distance = _positive("max_distance", max_distance)
        self.nodes = nodes

    def fields(self, edge_index: EdgeIndex, num_nodes: int) -> dict[str, Tensor]:
        """Breadth-first searches from all nodes; ValueError for more than 200 million pairs."""
        from graphformer.data.graph.kernels.traversal import make_neighbor_lists, shortest_paths

        source, target = edge_index
        outgoing = make_neighbor_lists(source, target, num_nodes)
        paths, lengths = shortest_paths(outgoing, self.max_distance, nodes=self.nodes)
        return {"path_index": torch.from_numpy(paths), "path_length": torch.from_numpy(lengths)}

    def __repr__(self) -> str:
        return f"ShortestPaths({self.max_distance}, nodes={self.nodes})"


class AddVirtualNode(BaseTransform):
    """Appends a node without edges of its own, marked in `virtual_mask`, bool [N + 1].

    The pattern `VirtualNode` lets it see all nodes of its graph and be seen by all. Fields of
    nodes that are known here get a row of zeros; masks of training, validation and test nodes
    leave it out, as do the labels.
    """

    def forward(self, data: Data) -> Data:
        """Append the node."""
        nodes = _num_nodes(data)
        labelled = ("y",) if "train_mask" in data else ()
        for name in (*_NODE_FIELDS, *labelled):
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
    """The transforms that a list of names stands for, see `parse_encodings`; virtual nodes last."""
    numbers = parse_encodings(encodings)
    made: dict[str, BaseTransform] = {}
    for name, number in numbers.items():
        if name == "laplacian":
            made[name] = LaplacianEigenvectors(number)
        elif name == "random_walk":
            made[name] = RandomWalk(number)
        elif name == "degree":
            made[name] = Degree()
        elif name == "shortest_path":
            made[name] = ShortestPaths(number)
    if "virtual_node" in numbers:
        made["virtual_node"] = AddVirtualNode()
    return list(made.values())


def add_encodings(
    graphs: Sequence[Data], encodings: Sequence[str] | None, *, num_workers: int | None = None
) -> list[Data]:
    """Add encodings to graphs: what a data set calls on what it has read.

    What an encoding gives is kept on disk, by the content of the graphs, so that no run pays
    twice. Many graphs are done side by side, with a progress bar.

    Args:
        graphs: whole graphs, each a `Data`; they are left as they are.
        encodings: names, see `parse_encodings`.
        num_workers: processes; by default as many as there are cores, if it is worth it.

    Returns:
        The graphs with the new fields.

    Raises ValueError for unknown encodings, and for edges to nodes that are not there, TypeError
    for graphs with nodes of several kinds.
    """
    transforms = make_transforms(encodings)
    made = [copy(graph) for graph in graphs]
    inputs = [(_edges(graph), _num_nodes(graph)) for graph in made] if transforms else []
    for transform in transforms:
        if isinstance(transform, Encoding):
            for graph, fields in zip(
                made, cached_fields(transform, inputs, num_workers), strict=True
            ):
                graph.update(fields)
        else:
            made = [transform(graph) for graph in made]
    return made


def _edges(data: Data) -> EdgeIndex:
    """The edges [2, E]; compiled walks would read wild memory for nodes that are not there."""
    if hasattr(data, "to_homogeneous"):
        raise TypeError(
            f"encodings need a graph with nodes of one kind, got {type(data).__name__}: pass "
            "data.to_homogeneous()"
        )
    edge_index = data.get("edge_index")
    if edge_index is None or not edge_index.numel():
        return np.empty((2, 0), dtype=np.int64)
    lowest, highest, nodes = int(edge_index.min()), int(edge_index.max()), _num_nodes(data)
    if lowest < 0 or highest >= nodes:
        worst = lowest if lowest < 0 else highest
        raise ValueError(f"edge_index names node {worst}, but the graph has nodes 0 to {nodes - 1}")
    edges: EdgeIndex = edge_index.detach().cpu().numpy().astype(np.int64, copy=False)
    return edges


def _num_nodes(data: Data) -> int:
    return int(data.num_nodes or 0)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value
