"""Sets of own graphs, links of an own graph, and PyG's data sets by class path."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch_geometric.data import Data

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import run_seed
from graphformer.data.graph.datasets import GraphBatches
from graphformer.data.graph.link_splits import split_links
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.graph_files import load_tensors, read_graph
from graphformer.data.io.cache import data_root
from graphformer.data.io.tabular import find_file


class GraphFile(GraphBatches):
    """Graphs with one label each: a .pt file with a list of PyG's `Data`, by `torch.save`.

    Each has x [n, F], edge_index, and perhaps edge_attr; and y [1], or y [1, K] of 0 and 1 (NaN
    where it is not known) for the task MultiLabelClassification.

    Args:
        path: the file, as it is or under the data root.
        batch_size, fold, num_folds, validation, root, seed, encodings, balanced: as in
            `GraphBatches`.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when it has other content.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 32,
        *,
        fold: int = 0,
        num_folds: int = 10,
        validation: bool = True,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            fold=fold,
            num_folds=num_folds,
            validation=validation,
            root=root,
            seed=seed,
            encodings=encodings,
            balanced=balanced,
        )
        self.path = path
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the graphs of the file."""
        graphs = load_tensors(find_file(self.path, self.root))
        if not isinstance(graphs, list) or not all(isinstance(graph, Data) for graph in graphs):
            raise ValueError(f"{self.path}: got {type(graphs).__name__}, expected a list of Data")
        return [labelled(graph, f"{self.path}, graph {n}") for n, graph in enumerate(graphs)]


class LinkFile(FullGraph):
    """Links of an own graph to predict: `NodeFile`'s formats, with hidden edges as labels.

    The batch has the fields of `PlanetoidLinks`.

    Args:
        path: .npz, .pt, .graphml or .gml, as it is or under the data root.
        val_fraction, test_fraction: fractions of the edges that are hidden for each split.
        root: the data root.
        seed: random seed of the split; None for the seed of the run.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when it has no graph, or too few edges.
    """

    def __init__(
        self,
        path: str,
        *,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.path, self.root, self.seed = path, root, seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the graph with the training edges and the pairs to predict."""
        graph, _ = read_graph(find_file(self.path, self.root), label="y")
        split = split_links(
            graph.edge_index,
            graph.num_nodes,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=run_seed() if self.seed is None else self.seed,
        )
        return Data(x=graph.x, **split)


class PyGGraphs(GraphBatches):
    """A data set of PyG with one label a graph, by the path of its class, such as ZINC or QM9.

    Args:
        dataset: such as torch_geometric.datasets.ZINC; its raw files are below `root`/pyg/NAME.
        options: arguments of the class beside `root`.
        target: column of y, for data with several targets; None for the only one.
        one_hot: number of categories of x [n, 1] or [n], which becomes one-hot; None: as it is.
        batch_size, fold, num_folds, validation, root, seed, encodings, balanced: as in
            `GraphBatches`.

    Raises:
        ValueError: when the path names no data set of `torch_geometric.datasets`.
    """

    def __init__(
        self,
        dataset: str,
        batch_size: int = 32,
        *,
        options: dict[str, Any] | None = None,
        target: int | None = None,
        one_hot: int | None = None,
        fold: int = 0,
        num_folds: int = 10,
        validation: bool = True,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            fold=fold,
            num_folds=num_folds,
            validation=validation,
            root=root,
            seed=seed,
            encodings=encodings,
            balanced=balanced,
        )
        self.dataset, self.options = dataset, options or {}
        self.target, self.one_hot = target, one_hot
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the graphs of the data set."""
        make = pyg_dataset(self.dataset)
        name = self.dataset.rpartition(".")[2]
        graphs = make(root=str(data_root(self.root) / "pyg" / name), **self.options)
        return [self._graph(labelled(graph, name)) for graph in graphs]

    def _graph(self, graph: Data) -> Data:
        if self.target is not None:
            graph.y = graph.y.reshape(-1)[self.target : self.target + 1]
        if self.one_hot is not None:
            index = graph.x.reshape(-1).long()
            graph.x = torch.nn.functional.one_hot(index, self.one_hot).float()
        return graph


class PyGNodes(FullGraph):
    """A data set of PyG of one graph with masks, by the path of its class.

    Args:
        dataset: such as torch_geometric.datasets.WikiCS; its raw files are below `root`/pyg/NAME.
        options: arguments of the class beside `root`.
        split: column of masks [N, splits]; ignored for masks [N].
        root: the data root.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.

    Raises:
        ValueError: when the path names no data set, or the graph has no masks.
    """

    def __init__(
        self,
        dataset: str,
        *,
        options: dict[str, Any] | None = None,
        split: int = 0,
        root: str | None = None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.dataset, self.options, self.split = dataset, options or {}, split
        self.root, self.encodings = root, encodings
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the graph with one column of the masks."""
        name = self.dataset.rpartition(".")[2]
        root = str(data_root(self.root) / "pyg" / name)
        graph: Data = pyg_dataset(self.dataset)(root=root, **self.options)[0]
        for key in ("train_mask", "val_mask", "test_mask"):
            if graph.get(key) is None:
                raise ValueError(
                    f"{name}: got no {key}, expected masks of the splits; save the graph with "
                    "torch.save and use NodeFile, which draws them"
                )
            if graph[key].ndim == 2:
                graph[key] = graph[key][:, self.split].contiguous()
        return graph


def pyg_dataset(path: str) -> Callable[..., Any]:
    """Return a class of `torch_geometric.datasets` by its name or path.

    Raises:
        ValueError: when there is no such class.
    """
    home, _, name = path.rpartition(".")
    found = getattr(import_module("torch_geometric.datasets"), name, None)
    if home not in ("", "torch_geometric.datasets") or not isinstance(found, type):
        raise ValueError(
            f"dataset: got {path!r}, expected a class of torch_geometric.datasets; for another "
            "save its graphs with torch.save and use GraphFile or NodeFile"
        )
    return found


def labelled(graph: Data, name: str) -> Data:
    """Return a graph with features and a label y [1] or [1, T].

    Raises:
        ValueError: when it has no label.
    """
    if graph.get("y") is None:
        raise ValueError(f"{name}: got no y, expected the label of the graph; set it")
    if graph.get("x") is None:
        graph.x = torch.ones(graph.num_nodes, 1)
    graph.x = graph.x.float()
    y = graph.y.reshape(1) if graph.y.numel() == 1 else graph.y.reshape(1, -1)
    if y.ndim == 2 and y.is_floating_point() and y.isnan().any():
        known = y[~y.isnan()]
        if ((known == 0) | (known == 1)).all():  # some labels of the graph are not known
            y = y.nan_to_num(IGNORE_INDEX).long()
    graph.y = y
    return graph
