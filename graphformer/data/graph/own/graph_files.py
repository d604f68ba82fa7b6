"""Graphs of files: .npz arrays, .pt files of PyG, GraphML and GML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import networkx
import numpy as np
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.own.hetero import from_hetero
from graphformer.data.graph.own.tables import Columns, features, is_missing, is_numeric, numbers
from graphformer.data.io.arrays import load_arrays
from graphformer.data.label_sets import sort_labels

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


class GraphContent(NamedTuple):
    """A graph and the names in its file."""

    graph: Data
    classes: list[str]
    """Names of the classes, if labels are text."""
    nodes: list[str] | None
    """Names of the nodes, if they have some."""


def read_graph(file: Path, *, label: str, node_type: str | None = None) -> GraphContent:
    """Return the graph of a file with its names.

    - .npz: arrays `x` [N, F], `edge_index` [2, E], the labels [N], and perhaps `edge_attr` and
      the masks `train_mask`, `val_mask`, `test_mask` [N];
    - .pt: a `Data` of PyG, or a `HeteroData`, see `from_hetero`, written by `torch.save`;
    - .graphml, .gml: numeric attributes of the nodes are features, in the order of their names; a
      node without the attribute `label` is one without a label.

    Args:
        file: its suffix tells the format.
        label: name of the array, field or attribute with the labels, which becomes `y`.
        node_type: of a `HeteroData`, the type whose labels are predicted.

    Raises:
        ValueError: when the format is unknown, or the file has another content.
    """
    readers: dict[str, Callable[[Path, str], GraphContent]] = {
        ".npz": _read_npz,
        ".pt": lambda file, label: _read_pt(file, label, node_type),
        ".graphml": _read_networkx(networkx.read_graphml),
        ".gml": _read_networkx(networkx.read_gml),
    }
    if file.suffix not in readers:
        raise ValueError(f"path: got {file}, expected a file {', '.join(readers)}")
    content = readers[file.suffix](file, label)
    graph = content.graph
    if graph.get("edge_index") is None:
        raise ValueError(f"{file}: got no edge_index, expected a graph; add the edges")
    if graph.get("x") is None:
        graph.x = torch.ones(graph.num_nodes, 1)
    _check_sizes(graph, file)
    return content


def _check_sizes(graph: Data, file: Path) -> None:
    edge_index, num_nodes, y = graph.edge_index, len(graph.x), graph.get("y")
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise ValueError(
            f"{file}: got an edge_index of shape {tuple(edge_index.shape)}, expected [2, E]; "
            "transpose it"
        )
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < num_nodes:
        raise ValueError(
            f"{file}: got edges of the nodes {int(edge_index.min())} to {int(edge_index.max())}, "
            f"expected 0 to {num_nodes - 1}, the rows of x; renumber them"
        )
    if y is not None and (y.ndim == 0 or len(y) != num_nodes):
        raise ValueError(
            f"{file}: got labels of shape {tuple(y.shape)}, expected one for each of the "
            f"{num_nodes} nodes; mark unknown ones by {IGNORE_INDEX}"
        )


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


def _read_pt(file: Path, label: str, node_type: str | None) -> GraphContent:
    graph = load_tensors(file)
    if isinstance(graph, list | tuple) and len(graph) == 1:
        graph = graph[0]
    if isinstance(graph, HeteroData):
        return GraphContent(from_hetero(graph, node_type), [], None)
    if not isinstance(graph, Data):
        raise ValueError(f"{file}: got {type(graph).__name__}, expected a Data of PyG")
    if label != "y" and label in graph:
        graph.y = graph[label]
        del graph[label]
    return GraphContent(graph, [], None)


def _read_npz(file: Path, label: str) -> GraphContent:
    arrays = {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in load_arrays(file).items()
        if array.dtype.kind in "biuf"  # there may be arrays of text that are not read
    }
    graph = Data(edge_index=arrays["edge_index"].long() if "edge_index" in arrays else None)
    for name in ("x", "edge_attr"):
        if name in arrays:
            graph[name] = arrays[name].float()
    if label in arrays:
        y = arrays[label]
        graph.y = y if y.is_floating_point() else y.long()
    graph.update({name: arrays[name].bool() for name in _MASKS if name in arrays})
    return GraphContent(graph, [], None)


def _read_networkx(read: Callable[[Path], networkx.Graph]) -> Callable[[Path, str], GraphContent]:
    """Return a reader of a format of networkx."""

    def read_file(file: Path, label: str) -> GraphContent:
        try:
            network = read(file)
        except (networkx.NetworkXError, ParseError, KeyError, ValueError) as error:
            raise ValueError(
                f"{file}: got a file that networkx cannot read ({error}); correct it, or write it "
                f"again by networkx.{read.__name__.replace('read', 'write')}"
            ) from None
        return _from_networkx(network, label, file.name)

    return read_file


def _from_networkx(network: networkx.Graph, label: str, file: str) -> GraphContent:
    positions = {node: number for number, node in enumerate(network.nodes)}
    edges = [(positions[a], positions[b]) for a, b in network.edges()]
    if not network.is_directed():
        edges += [(b, a) for a, b in edges if a != b]
    rows = [values for _, values in network.nodes(data=True)]
    names = sorted({name for row in rows for name in row})
    columns: Columns = {name: [row.get(name) for row in rows] for name in names}
    graph = Data(edge_index=torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T.contiguous())
    graph.num_nodes = len(rows)
    graph.x = features(columns, None, (), file, other=[label])
    classes: list[str] = []
    if label in columns:
        values = columns[label]
        if is_numeric(values) and any(isinstance(value, float) for value in values):
            graph.y = numbers(values, label, file)
        else:
            classes = sort_labels({str(value) for value in values if not is_missing(value)})
            index = {name: number for number, name in enumerate(classes)}
            graph.y = torch.tensor([index.get(str(value), IGNORE_INDEX) for value in values])
    return GraphContent(graph, classes, [str(node) for node in network.nodes])
