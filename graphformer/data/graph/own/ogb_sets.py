"""OGB's data sets by name: graphs, nodes of one graph, and links to predict (extra `ogb`)."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from aiohttp import ClientError
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import SPLITS
from graphformer.data.graph.datasets import GraphBatches, GraphBatchesOptions
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.graph_files import PYG_CLASSES
from graphformer.data.graph.own.hetero import from_hetero, hetero_names
from graphformer.data.graph.own.sets import labelled
from graphformer.data.graph.own.tables import NodeNameList
from graphformer.data.io.cache import MissingDataError, data_root
from graphformer.options import checked_options

_CLASSES = {
    "ogbg": ("ogb.graphproppred", "PygGraphPropPredDataset"),
    "ogbn": ("ogb.nodeproppred", "PygNodePropPredDataset"),
    "ogbl": ("ogb.linkproppred", "PygLinkPropPredDataset"),
}
_OGB_SPLITS = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))


class OGBGraphs(GraphBatches):
    """A data set of graphs of OGB by name, such as ogbg-molhiv, with OGB's splits.

    Categories of atoms and bonds become one-hot columns, so that a linear map of them is the sum of
    embeddings of OGB's `AtomEncoder` and `BondEncoder`. Missing labels of several are -100.

    Args:
        name: ogbg-molhiv, ogbg-molpcba, ogbg-ppa and so on, but not ogbg-code2. Files are below
            `root`/ogb; the package ogb downloads missing ones.
        batch_size, options: as in `GraphBatches`, but for folds.

    Raises:
        MissingDataError: when the files can be neither read nor downloaded.
        ModuleNotFoundError: without the package ogb.
        ValueError: for an unknown name, a data set whose labels are texts, or a fold.

    Source: Hu et al., 2020, "Open Graph Benchmark", https://arxiv.org/abs/2005.00687.
    """

    @checked_options
    def __init__(
        self,
        name: str = "ogbg-molhiv",
        batch_size: int = 32,
        **options: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        if self.fold:
            raise ValueError(f"fold: got {self.fold} for {name}, which has splits; leave it out")
        self.dataset = _checked_name(name, "ogbg")
        self._indices: dict[str, Tensor] = {}
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return all graphs, in OGB's order."""
        source, self._indices = load_ogb(self.dataset, self.root)
        if "mol" not in self.dataset:
            return [labelled(graph, self.dataset) for graph in source]
        features = import_module("ogb.utils.features")
        atoms, bonds = features.get_atom_feature_dims(), features.get_bond_feature_dims()
        graphs = []
        for graph in source:
            graph.x, graph.edge_attr = one_hot(graph.x, atoms), one_hot(graph.edge_attr, bonds)
            graphs.append(labelled(graph, self.dataset))
        return graphs

    def split(self, graphs: list[Data]) -> dict[str, list[Data]]:
        """Return the graphs of OGB's splits."""
        return {split: [graphs[i] for i in own.tolist()] for split, own in self._indices.items()}


class OGBNodes(FullGraph):
    """A graph of OGB with labelled nodes by name, such as ogbn-arxiv, with OGB's splits.

    Without features (ogbn-proteins) x is 1. Types of nodes and edges (ogbn-mag) become `node_type`
    and `edge_type`, see `NodeFile`. Graphs that do not fit into memory are for `convert_ogb`.

    Args:
        name: ogbn-arxiv, ogbn-products, ogbn-proteins or ogbn-mag. Files are below `root`/ogb; the
            package ogb downloads missing ones.
        undirected: add the edges of one graph type in the other direction.
        root: the data root.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.

    Raises:
        MissingDataError: when the files can be neither read nor downloaded.
        ModuleNotFoundError: without the package ogb.
        ValueError: for an unknown name, or `undirected` with types of edges.

    Source: Hu et al., 2020, "Open Graph Benchmark", https://arxiv.org/abs/2005.00687.
    """

    def __init__(
        self,
        name: str = "ogbn-arxiv",
        *,
        undirected: bool = True,
        root: str | None = None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.dataset, self.undirected = _checked_name(name, "ogbn"), undirected
        self.root, self.encodings = root, encodings
        self.node_names: NodeNameList | None = None
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the graph with masks of OGB's splits."""
        source, indices = load_ogb(self.dataset, self.root)
        graph = source[0]
        if graph.get("edge_index_dict") is not None:
            return self._from_types(graph, indices)
        result = Data(x=_features(graph), edge_index=graph.edge_index, y=_node_labels(graph.y))
        if graph.get("edge_attr") is not None:
            result.edge_attr = graph.edge_attr.float()
        if self.undirected:
            from torch_geometric.transforms import ToUndirected

            result = ToUndirected(reduce="mean")(result)
        for split, nodes in indices.items():
            result[f"{split}_mask"] = _mask(nodes, int(graph.num_nodes))
        return result

    def _from_types(self, graph: Data, indices: dict[str, Any]) -> Data:
        if self.undirected:
            raise ValueError(
                f"undirected: got True for {self.dataset}, which has types of edges, expected False"
            )
        types = HeteroData()
        for name, count in graph.num_nodes_dict.items():
            types[name].num_nodes = int(count)
        for name, x in graph.x_dict.items():
            types[name].x = x.float()
        for edge_type, edge_index in graph.edge_index_dict.items():
            types[edge_type].edge_index = edge_index
        ((name, y),) = graph.y_dict.items()
        types[name].y = _node_labels(y)
        for split, nodes in indices.items():
            types[name][f"{split}_mask"] = _mask(nodes[name], len(y))
        self.node_names = hetero_names(types)
        return from_hetero(types, name)


class OGBLinks(FullGraph):
    """Links of a graph of OGB to predict by name, such as ogbl-collab, with OGB's splits and pairs.

    The batch has the fields of `PlanetoidLinks`; x is 1 where OGB has no features (ogbl-ddi). The
    metrics are those of the task, not OGB's rank among all pairs.

    Args:
        name: ogbl-collab, ogbl-ddi, ogbl-ppa or ogbl-vessel: those with pairs without an edge.
            Files are below `root`/ogb; the package ogb downloads missing ones.
        root: the data root.

    Raises:
        MissingDataError: when the files can be neither read nor downloaded.
        ModuleNotFoundError: without the package ogb.
        ValueError: for an unknown name, or a data set that ranks targets or has types of edges.

    Source: Hu et al., 2020, "Open Graph Benchmark", https://arxiv.org/abs/2005.00687.
    """

    def __init__(self, name: str = "ogbl-collab", *, root: str | None = None) -> None:
        super().__init__()
        self.dataset, self.root = _checked_name(name, "ogbl"), root
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the graph of the training edges and the pairs of each split."""
        source, pairs = load_ogb(self.dataset, self.root)
        graph = source[0]
        if "edge" not in pairs["train"] or graph.get("edge_index") is None:
            raise ValueError(
                f"name: got {self.dataset}, whose task is to rank targets of each source, expected "
                "a data set of pairs with and without an edge, such as ogbl-collab"
            )
        result = Data(x=_features(graph), edge_index=graph.edge_index)
        result.train_edge_label_index = pairs["train"]["edge"].T.contiguous()
        for split in ("val", "test"):
            edges, others = pairs[split]["edge"], pairs[split]["edge_neg"]
            result[f"{split}_edge_label_index"] = torch.cat([edges, others]).T.contiguous()
            number = torch.arange(len(edges) + len(others))
            result[f"{split}_edge_label"] = (number < len(edges)).long()
        return result


def load_ogb(name: str, root: str | None) -> tuple[Any, dict[str, Any]]:
    """Return a data set of OGB in PyG's form, and what OGB's splits contain, by split.

    Args:
        name: such as ogbn-arxiv.
        root: the data root; the files are below its folder ogb.

    Raises:
        MissingDataError: when the files can be neither read nor downloaded.
        ModuleNotFoundError: without the package ogb.
        ValueError: for an unknown name.
    """
    module, class_name = _CLASSES[name.partition("-")[0]]
    try:
        make = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "torch_geometric":
            raise
        raise ModuleNotFoundError(
            f'{name}: data sets of OGB need {error.name}; pip install "graphformer[ogb]"'
        ) from None
    folder = data_root(root) / "ogb"
    try:
        # ogb 1.3 loads its files by torch.load, which since torch 2.6 reads tensors alone.
        with torch.serialization.safe_globals([*PYG_CLASSES, *_numpy_classes()]):
            source = make(name=name, root=str(folder))
            links = name.startswith("ogbl")
            found = source.get_edge_split() if links else source.get_idx_split()
    except EOFError:  # ogb asks on the terminal
        raise MissingDataError(
            f"{name}: ogb asks before it downloads more than 1 GB or replaces an old version; "
            f"answer once in a terminal, or put the files into {folder}"
        ) from None
    except ValueError as error:
        line = " ".join(str(error).split())
        raise ValueError(f"name: got {name!r}, expected a data set of OGB ({line})") from None
    except (OSError, RuntimeError, ClientError, asyncio.TimeoutError, BadZipFile) as error:
        raise MissingDataError(
            f"{name}: ogb can neither read nor download its files ({error}); put them into {folder}"
        ) from error
    return source, {split: found[own] for split, own in _OGB_SPLITS.items()}


def one_hot(values: Tensor, sizes: list[int]) -> Tensor:
    """Return categories [n, C] as one-hot columns side by side, float [n, sum(sizes)]."""
    parts = [
        torch.nn.functional.one_hot(column, size)
        for column, size in zip(values.long().unbind(1), sizes, strict=True)
    ]
    return torch.cat(parts, dim=1).float()


def _numpy_classes() -> list[Any]:
    """Return what files of numpy arrays contain, of numpy 1 and 2: OGB stores its splits so."""
    rebuild = np.empty(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in (np.int32, np.int64, np.float32, np.float64)]
    return [np.ndarray, np.dtype, *kinds, *((rebuild, name) for name in names)]


def _checked_name(name: str, kind: str) -> str:
    if name.partition("-")[0] != kind or name == "ogbg-code2":
        raise ValueError(
            f"name: got {name!r}, expected a data set of OGB that begins with {kind}-"
            + (", but for ogbg-code2, whose labels are texts" if kind == "ogbg" else "")
        )
    return name


def _features(graph: Data) -> Tensor:
    return torch.ones(int(graph.num_nodes), 1) if graph.get("x") is None else graph.x.float()


def _node_labels(y: Tensor) -> Tensor:
    """Return labels [N] as integers, missing ones (NaN) as `IGNORE_INDEX`; several as they are."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return y.nan_to_num(IGNORE_INDEX).long() if y.is_floating_point() else y


def _mask(nodes: Tensor, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask
