"""Graphs of files: .npz arrays, .pt files of PyG, GraphML and GML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import networkx
import numpy as np
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

from graphformer.data.graph.own.hetero import from_hetero
from graphformer.data.graph.own.tables import Columns, features, is_numeric

PYG_CLASSES = [
    Data,
    DataEdgeAttr,
    DataTensorAttr,
    GlobalStorage,
    HeteroData,
    BaseStorage,
    NodeStorage,
    EdgeStorage,
]
"""What a file of `Data` or `HeteroData` contains beside tensors."""
_MASKS = ("train_mask", "val_mask", "test_mask")


def read_graph(file: Path, *, label: str, node_type: str | None = None) -> tuple[Data, list[str]]:
    """Return the graph of a file, and the names of its classes if labels are text.

    - .npz: arrays `x` [N, F], `edge_index` [2, E], the labels [N], and perhaps `edge_attr` and
      the masks `train_mask`, `val_mask`, `test_mask` [N];
    - .pt: a `Data` of PyG, or a `HeteroData`, see `from_hetero`, written by `torch.save`;
    - .graphml, .gml: numeric attributes of the nodes are features, in the order of their names.

    Args:
        file: its suffix tells the format.
        label: name of the array, field or attribute with the labels, which becomes `y`.
        node_type: of a `HeteroData`, the type whose labels are predicted.

    Raises:
        ValueError: when the format is unknown, or the file has another content.
    """
    readers: dict[str, Callable[[Path, str], tuple[Data, list[str]]]] = {
        ".npz": _read_npz,
        ".pt": lambda file, label: _read_pt(file, label, node_type),
        ".graphml": lambda file, label: _from_networkx(networkx.read_graphml(file), label),
        ".gml": lambda file, label: _from_networkx(networkx.read_gml(file), label),
    }
    if file.suffix not in readers:
        raise ValueError(f"path: got {file}, expected a file {', '.join(readers)}")
    graph, names = readers[file.suffix](file, label)
    if graph.get("edge_index") is None:
        raise ValueError(f"{file}: got no edge_index, expected a graph; add the edges")
    if graph.get("x") is None:
        graph.x = torch.ones(graph.num_nodes, 1)
    return graph, names


def load_tensors(file: Path) -> Any:
    """Return the content of a .pt file of tensors and PyG's `Data`; no code in it is run.

    Raises:
        ValueError: when it contains other objects.
    """
    try:
        with torch.serialization.safe_globals(PYG_CLASSES):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        line = str(error).strip().partition("\n")[0][:100]
        raise ValueError(
            f"{file}: got a file that is not of tensors and PyG's Data alone ({line}); save the "
            "data again by torch.save"
        ) from None


def _read_pt(file: Path, label: str, node_type: str | None) -> tuple[Data, list[str]]:
    graph = load_tensors(file)
    if isinstance(graph, list | tuple) and len(graph) == 1:
        graph = graph[0]
    if isinstance(graph, HeteroData):
        return from_hetero(graph, node_type), []
    if not isinstance(graph, Data):
        raise ValueError(f"{file}: got {type(graph).__name__}, expected a Data of PyG")
    if label != "y" and label in graph:
        graph.y = graph[label]
        del graph[label]
    return graph, []


def _read_npz(file: Path, label: str) -> tuple[Data, list[str]]:
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: torch.from_numpy(np.ascontiguousarray(stored[name])) for name in stored}
    graph = Data(edge_index=arrays["edge_index"].long() if "edge_index" in arrays else None)
    for name in ("x", "edge_attr"):
        if name in arrays:
            graph[name] = arrays[name].float()
    if label in arrays:
        y = arrays[label]
        graph.y = y if y.is_floating_point() else y.long()
    graph.update({name: arrays[name].bool() for name in _MASKS if name in arrays})
    return graph, []


def _from_networkx(network: networkx.Graph, label: str) -> tuple[Data, list[str]]:
    numbers = {node: number for number, node in enumerate(network.nodes)}
    edges = [(numbers[a], numbers[b]) for a, b in network.edges()]
    if not network.is_directed():
        edges += [(b, a) for a, b in edges if a != b]
    rows = [values for _, values in network.nodes(data=True)]
    names = sorted({name for row in rows for name in row})
    columns: Columns = {name: [row.get(name) for row in rows] for name in names}
    graph = Data(edge_index=torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T.contiguous())
    graph.num_nodes = len(rows)
    graph.x = features(columns, None, (), "graph", other=[label])
    classes: list[str] = []
    if label in columns:
        values = columns[label]
        if is_numeric(values) and any(isinstance(value, float) for value in values):
            graph.y = torch.tensor(values, dtype=torch.float32)
        else:
            classes = sorted({str(value) for value in values})
            graph.y = torch.tensor([classes.index(str(value)) for value in values])
    return graph, classes
