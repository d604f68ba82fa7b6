"""`MemoryMappedGraph`, a graph on disk behind PyG's interfaces of feature and graph stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import EdgeAttr, FeatureStore, GraphStore, TensorAttr
from torch_geometric.data.graph_store import EdgeLayout

from graphformer.adjacency import CSR
from graphformer.data.graph.out_of_core.names import NodeNames
from graphformer.data.graph.out_of_core.npy import memory_map
from graphformer.data.io.cache import MissingDataError

HEADER = "graph.json"


class StoredGraph(Protocol):
    """What the samplers read of a graph: PyG's `FeatureStore` and `GraphStore`, and its sizes.

    Fields of nodes are tensors [N, ...] of the feature store; those with "edge" in their name are
    of edges, [E, ...], in the order of the compressed rows by target that the graph store returns.
    """

    num_nodes: int
    num_features: int
    num_classes: int
    is_coalesced: bool

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        """Return the names of the fields."""
        ...

    def get_tensor(self, *args: object, **kwargs: object) -> Tensor:
        """Return a field, or the rows `index` of it."""
        ...

    def get_edge_index(self, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Return sources [E] and row starts [N + 1] for `layout="csc"`."""
        ...

    def split_nodes(self, split: str) -> Tensor:
        """Return the labelled nodes of train, val or test, int64 [n]."""
        ...


class MemoryMappedGraph(FeatureStore, GraphStore):
    """A graph in a folder that `write_graph` made; its arrays are read-only memory maps.

    The system reads the pages that are used, and drops them when it needs memory; no field is ever
    in memory as a whole. It is a `FeatureStore` and a `GraphStore` of PyG with one kind of nodes
    and edges: `graph.get_tensor(None, "x", index=nodes)`, `graph.get_edge_index(None, "csc")`.

    Args:
        folder: of the graph.

    Attributes:
        num_nodes, num_edges: N and E.
        num_features: width F of the field `x`.
        num_classes: number of classes of the labels `y`; 0 for real-valued targets.
        is_coalesced: False if an edge may occur several times.
        splits: names of the splits.
        class_names: of the classes, if they have names.
        node_names: names of the nodes, or None.

    Raises:
        MissingDataError: when the folder has no graph.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        try:
            header = json.loads((self.folder / HEADER).read_text())
        except FileNotFoundError:
            raise MissingDataError(
                f"{self.folder}: got no file {HEADER}, expected the folder of a stored graph; make "
                "one by graphformer.data.write_graph"
            ) from None
        self.num_nodes: int = header["num_nodes"]
        self.num_edges: int = header["num_edges"]
        self.num_classes: int = header["num_classes"]
        self.is_coalesced: bool = header["is_coalesced"]
        self._fields = {name: self._map(name, is_random=True) for name in header["fields"]}
        self.splits: list[str] = header["splits"]
        self.class_names: list[str] = header.get("class_names", [])
        self.node_names = NodeNames(self.folder) if header.get("has_names") else None
        self._indptr, self._indices = self._map("indptr"), self._map("indices", is_random=True)
        x = self._fields.get("x")
        self.num_features: int = x.shape[1] if x is not None else 0

    def split_nodes(self, split: str) -> Tensor:
        """Return the labelled nodes of train, val or test, int64 [n].

        Raises:
            ValueError: when the graph was written without this split.
        """
        if split not in self.splits:
            raise ValueError(
                f"split: got {split!r}, expected one of {', '.join(self.splits) or 'no splits'} "
                f"of the graph in {self.folder}"
            )
        return self._map(split)

    def __reduce__(self) -> tuple[type[MemoryMappedGraph], tuple[Path]]:
        return MemoryMappedGraph, (self.folder,)  # another process maps the files itself

    def __repr__(self) -> str:
        return f"MemoryMappedGraph({self.num_nodes:,} nodes, {self.num_edges:,} edges)"

    def _map(self, name: str, *, is_random: bool = False) -> Tensor:
        return memory_map(self.folder / f"{name}.npy", is_random=is_random)

    # PyG's FeatureStore ---------------------------------------------------------------------------

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        """Return the names of the fields of nodes and edges."""
        return [TensorAttr(None, name) for name in self._fields]

    def _get_tensor(self, attr: TensorAttr) -> Tensor | None:
        field = self._fields.get(str(attr.attr_name))
        if field is None or attr.index is None:
            return field
        index = attr.index if isinstance(attr.index, slice) else torch.as_tensor(attr.index)
        return field[index]

    def _get_tensor_size(self, attr: TensorAttr) -> tuple[int, ...]:
        return tuple(self._fields[str(attr.attr_name)].shape)

    def _put_tensor(self, tensor: Tensor, attr: TensorAttr) -> bool:
        return self._refuse()

    def _remove_tensor(self, attr: TensorAttr) -> bool:
        return self._refuse()

    # PyG's GraphStore -----------------------------------------------------------------------------

    def get_all_edge_attrs(self) -> list[EdgeAttr]:
        """Return the layout of the edges: compressed by target, sources ascending."""
        size = (self.num_nodes, self.num_nodes)
        return [EdgeAttr(None, EdgeLayout.CSC, is_sorted=True, size=size)]

    def _get_edge_index(self, edge_attr: EdgeAttr) -> tuple[Tensor, Tensor] | None:
        is_stored = EdgeLayout(edge_attr.layout) is EdgeLayout.CSC
        return (self._indices, self._indptr) if is_stored else None

    def _put_edge_index(self, edge_index: tuple[Tensor, Tensor], edge_attr: EdgeAttr) -> bool:
        return self._refuse()

    def _remove_edge_index(self, edge_attr: EdgeAttr) -> bool:
        return self._refuse()

    def _refuse(self) -> bool:
        raise TypeError(
            f"{self.folder}: got a change of a stored graph, which is read-only; write another one "
            "by graphformer.data.write_graph"
        )


def stored_adjacency(graph: StoredGraph) -> CSR:
    """Return the edges of a stored graph as an adjacency on the same memory, N x N."""
    sources, indptr = graph.get_edge_index(None, "csc")
    shape = (graph.num_nodes, graph.num_nodes)
    return CSR(indptr, sources, shape, is_coalesced=graph.is_coalesced)


def read_fields(graph: StoredGraph, nodes: Tensor, edge_ids: Tensor) -> dict[str, Tensor]:
    """Return the fields of some nodes and edges; numbers narrower than usual are widened."""
    found: dict[str, Tensor] = {}
    for attribute in graph.get_all_tensor_attrs():
        name = str(attribute.attr_name)
        index = edge_ids if "edge" in name else nodes
        found[name] = widen(graph.get_tensor(attribute.group_name, name, index=index))
    return found


def widen(value: Tensor) -> Tensor:
    """Return features in at least float32, and numbers such as labels in int64."""
    if value.is_floating_point():
        return value.float() if value.dtype.itemsize < 4 else value
    return value if value.dtype is torch.bool else value.long()
