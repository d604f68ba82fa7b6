"""Graphs of files: .npz arrays, .pt files of PyG, GraphML and GML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import networkx
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
from torch_geometric.data.storage import BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.own.hetero import as_list, from_hetero, hetero_names, join_types
from graphformer.data.graph.own.tables import (
    Columns,
    NodeNameList,
    features,
    find_categories,
    is_missing,
    is_numeric,
    numbers,
)
from graphformer.data.io.arrays import load_arrays
from graphformer.data.label_sets import label_numbers, sort_labels

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
    nodes: NodeNameList | None
    """Names of the nodes, if they have some, and of their types."""
    categories: dict[str, list[str]]
    """Categories of the encoded columns."""


class _Settings(NamedTuple):
    """What `read_graph` takes beside the file."""

    label: str
    id: str
    node_type: str | None
    classes: list[str]
    categories: Sequence[str]
    labelled: bool


class _Content(NamedTuple):
    """What a reader returns: as `GraphContent`, and columns that may be encoded."""

    graph: Data
    classes: list[str]
    nodes: NodeNameList | None
    columns: Columns


def read_graph(
    file: Path,
    *,
    label: str,
    id: str = "id",
    node_type: str | None = None,
    classes: Sequence[str] = (),
    categories: Sequence[str] = (),
    known: Mapping[str, list[str]] | None = None,
    labelled: bool = True,
) -> GraphContent:
    """Return the graph of a file with its names.

    - .npz: arrays `x` [N, F], `edge_index` [2, E], the labels [N], and perhaps `edge_attr` and
      the masks `train_mask`, `val_mask`, `test_mask` [N];
    - .pt: a `Data` of PyG, or a `HeteroData`, see `from_hetero`, written by `torch.save`;
    - .graphml, .gml: numeric attributes of the nodes are features, in the order of their names; a
      node without the attribute `label` is one without a label.

    Args:
        file: its suffix tells the format.
        label: name of the array, field or attribute with the labels, which becomes `y`.
        id: array or field with the names of the nodes, of each type of a `HeteroData`.
        node_type: of a `HeteroData`, the type whose labels are predicted.
        classes: names of the classes, where they are known; else those of the labels.
        categories: arrays, fields or attributes that are encoded one-hot, after the other features.
        known: their categories, where they are known.
        labelled: whether a `HeteroData` is read with the labels of one type, which it then needs.

    Raises:
        ValueError: when the format is unknown, or the file has another content.
    """
    settings = _Settings(label, id, node_type, list(classes), categories, labelled)
    readers: dict[str, Callable[[Path, _Settings], _Content]] = {
        ".npz": _read_npz,
        ".pt": _read_pt,
        ".graphml": _read_networkx(networkx.read_graphml),
        ".gml": _read_networkx(networkx.read_gml),
    }
    if file.suffix not in readers:
        raise ValueError(f"path: got {file}, expected a file {', '.join(readers)}")
    graph, found, nodes, columns = readers[file.suffix](file, settings)
    if graph.get("edge_index") is None:
        raise ValueError(f"{file}: got no edge_index, expected a graph; add the edges")
    kinds = find_categories(columns, categories, known or {}, file.name)
    encoded = features(columns, (), kinds, file.name, other=())
    parts = [part for part in (graph.get("x"), encoded) if part is not None]
    sizes = {len(part) for part in parts}
    if len(sizes) > 1:
        raise ValueError(
            f"{file}: got categories of {len(parts[-1])} nodes for {len(parts[0])} rows of x, "
            "expected one for each node; correct them"
        )
    graph.x = torch.cat(parts, dim=1) if parts else torch.ones(graph.num_nodes, 1)
    _check_sizes(graph, file)
    if nodes is not None and len(nodes.names) != len(graph.x):
        raise ValueError(
            f"{file}: got {len(nodes.names)} names {id!r} for {len(graph.x)} nodes, expected one "
            "for each; correct them, or name another field by id"
        )
    return GraphContent(graph, found, nodes, kinds)


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


def _read_pt(file: Path, settings: _Settings) -> _Content:
    graph = load_tensors(file)
    if isinstance(graph, list | tuple) and len(graph) == 1:
        graph = graph[0]
    if isinstance(graph, HeteroData):
        if settings.categories:
            raise ValueError(
                f"categories: got {list(settings.categories)} with a HeteroData, expected none; "
                "encode them in x"
            )
        types = from_hetero(graph, settings.node_type) if settings.labelled else join_types(graph)
        return _Content(types, [], hetero_names(graph, settings.id), {})
    if not isinstance(graph, Data):
        raise ValueError(f"{file}: got {type(graph).__name__}, expected a Data of PyG")
    label = settings.label
    classes: list[str] = []
    if label != "y" and label in graph:
        graph.y = graph[label]
        del graph[label]
    if isinstance(graph.get("y"), list):
        graph.y, classes = _text_labels(graph.y, settings, file.name)
    names = NodeNameList(as_list(graph[settings.id])) if settings.id in graph else None
    columns = {name: as_list(graph[name]) for name in settings.categories if name in graph}
    for name in (settings.id, *columns):
        if name in graph and name != "x":
            del graph[name]
    return _Content(graph, classes, names, columns)


def _read_npz(file: Path, settings: _Settings) -> _Content:
    stored = load_arrays(file)
    arrays = {
        name: torch.from_numpy(np.ascontiguousarray(array))
        for name, array in stored.items()
        if array.dtype.kind in "biuf"
    }
    graph = Data(edge_index=arrays["edge_index"].long() if "edge_index" in arrays else None)
    for name in ("x", "edge_attr"):
        if name in arrays:
            graph[name] = arrays[name].float()
    classes: list[str] = []
    if settings.label in arrays:
        y = arrays[settings.label]
        graph.y = y if y.is_floating_point() else y.long()
    elif settings.label in stored:
        graph.y, classes = _text_labels(stored[settings.label].tolist(), settings, file.name)
    graph.update({name: arrays[name].bool() for name in _MASKS if name in arrays})
    columns = {name: stored[name].tolist() for name in settings.categories if name in stored}
    names = NodeNameList(stored[settings.id].tolist()) if settings.id in stored else None
    return _Content(graph, classes, names, columns)


def _text_labels(values: Sequence[Any], settings: _Settings, file: str) -> tuple[Tensor, list[str]]:
    """Return classes [N] and their names; a missing value is a node without a label."""
    given = [str(value) for value in values if not is_missing(value)]
    classes = settings.classes or sort_labels(set(given))
    y = torch.full((len(values),), IGNORE_INDEX)
    labelled = torch.tensor([not is_missing(value) for value in values], dtype=torch.bool)
    y[labelled] = label_numbers(given, classes, None, file)
    return y, classes


def _read_networkx(
    read: Callable[[Path], networkx.Graph],
) -> Callable[[Path, _Settings], _Content]:
    """Return a reader of a format of networkx."""

    def read_file(file: Path, settings: _Settings) -> _Content:
        try:
            network = read(file)
        except (networkx.NetworkXError, ParseError, KeyError, ValueError) as error:
            raise ValueError(
                f"{file}: got a file that networkx cannot read ({error}); correct it, or write it "
                f"again by networkx.{read.__name__.replace('read', 'write')}"
            ) from None
        return _from_networkx(network, settings, file.name)

    return read_file


def _from_networkx(network: networkx.Graph, settings: _Settings, file: str) -> _Content:
    positions = {node: number for number, node in enumerate(network.nodes)}
    edges = [(positions[a], positions[b]) for a, b in network.edges()]
    if not network.is_directed():
        edges += [(b, a) for a, b in edges if a != b]
    rows = [values for _, values in network.nodes(data=True)]
    names = sorted({name for row in rows for name in row})
    columns: Columns = {name: [row.get(name) for row in rows] for name in names}
    graph = Data(edge_index=torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T.contiguous())
    graph.num_nodes = len(rows)
    label = settings.label
    graph.x = features(columns, None, {}, file, other=[label, *settings.categories])
    classes: list[str] = []
    if label in columns:
        values = columns[label]
        if is_numeric(values) and any(isinstance(value, float) for value in values):
            graph.y = numbers(values, label, file)
        else:
            graph.y, classes = _text_labels(values, settings, file)
    return _Content(graph, classes, NodeNameList([str(node) for node in network.nodes]), columns)
