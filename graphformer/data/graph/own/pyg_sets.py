"""PyG's data sets by the path of their class: many graphs, or one graph with labelled nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from itertools import islice
from typing import Any, Literal
from zipfile import BadZipFile

import torch
from aiohttp import ClientError
from torch import Tensor
from torch_geometric.data import Data, Dataset
from typing_extensions import Unpack

from graphformer.data.base import SPLITS
from graphformer.data.graph.datasets import GraphBatches, GraphBatchesOptions
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.sets import labelled
from graphformer.data.io.cache import MissingDataError, data_root
from graphformer.options import checked_options


class PyGGraphs(GraphBatches):
    """A data set of graphs of PyG by the path of its class, such as ZINC, QM9, LRGBDataset or PPI.

    If the class has an argument `split`, as ZINC and PPI, its own splits are used, else folds.

    Args:
        dataset: such as torch_geometric.datasets.ZINC, or the path of another subclass of
            `torch_geometric.data.Dataset`; its raw files are below `root`/pyg/NAME.
        options: arguments of the class beside `root` and `split`, such as {subset: true}.
        target: column of y, for data with several targets; None for all.
        one_hot: number of categories of x [n, 1] or [n], which becomes one-hot; None: as it is.
        edge_one_hot: the same of edge_attr.
        level: what has labels, "graph" or "node" (PPI).
        batch_size, settings: as in `GraphBatches`.

    Raises:
        MissingDataError: when PyG can neither read nor download the raw files.
        ValueError: when the path names no data set of PyG, or an argument does not fit.
    """

    @checked_options
    def __init__(
        self,
        dataset: str,
        batch_size: int = 32,
        *,
        options: dict[str, Any] | None = None,
        target: int | None = None,
        one_hot: int | None = None,
        edge_one_hot: int | None = None,
        level: Literal["graph", "node"] = "graph",
        **settings: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **settings)
        self.dataset, self.options = dataset, options or {}
        self.target, self.level = target, level
        self.categories = {"x": one_hot, "edge_attr": edge_one_hot}
        self._sizes: dict[str, int] = {}  # graphs of each split, where the data set has splits
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the graphs of the data set, of all splits."""
        name = self.dataset.rpartition(".")[2]
        make = pyg_dataset(self.dataset)
        if "split" not in signature(make).parameters or "split" in self.options:
            return [self._graph(graph, name) for graph in read_pyg(make, self.root, self.options)]
        if self.fold:
            raise ValueError(f"fold: got {self.fold} for {name}, which has splits; leave it out")
        graphs: list[Data] = []
        for split in SPLITS:
            own = read_pyg(make, self.root, {**self.options, "split": split})
            self._sizes[split] = len(own)
            graphs += [self._graph(graph, name) for graph in own]
        return graphs

    def split(self, graphs: list[Data]) -> dict[str, list[Data]]:
        """Return the graphs of each split: the data set's own, else by folds."""
        if not self._sizes:
            return super().split(graphs)
        rest = iter(graphs)
        return {name: list(islice(rest, size)) for name, size in self._sizes.items()}

    def _graph(self, graph: Data, name: str) -> Data:
        graph = labelled(graph, name, self.level)
        if self.target is not None:
            columns = graph.y.reshape(len(graph.y) if self.level == "node" else 1, -1)
            if not 0 <= self.target < columns.shape[1]:
                raise ValueError(
                    f"target: got {self.target}, expected 0 to {columns.shape[1] - 1}, a column of "
                    f"the labels of {name}"
                )
            graph.y = columns[:, self.target].contiguous()
        for field, count in self.categories.items():
            if count is not None:
                graph[field] = _one_hot(graph[field], count, field)
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
        graph = read_pyg(pyg_dataset(self.dataset), self.root, self.options)[0]
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
    """Return a class of data sets of PyG by its path, or its name in `torch_geometric.datasets`.

    Raises:
        ValueError: when there is no such class, or it is none of data sets of PyG.
    """
    home, _, name = path.rpartition(".")
    home = home or "torch_geometric.datasets"
    try:
        found = getattr(import_module(home), name, None)
    except ModuleNotFoundError as error:
        if not f"{home}.".startswith(f"{error.name}."):  # the module itself lacks another one
            raise
        found = None
    is_known = isinstance(found, type) and (
        home == "torch_geometric.datasets" or issubclass(found, Dataset)
    )
    if not is_known:
        raise ValueError(
            f"dataset: got {path!r}, expected a class of torch_geometric.datasets, or the path of "
            "a subclass of torch_geometric.data.Dataset; for other graphs use GraphFile or NodeFile"
        )
    assert isinstance(found, type)
    return found


def read_pyg(make: Callable[..., Any], root: str | None, options: dict[str, Any]) -> list[Data]:
    """Return the graphs of a data set of PyG, which downloads missing files.

    Args:
        make: the class.
        root: the data root; the files are below its folder pyg/NAME.
        options: arguments of the class beside `root`.

    Raises:
        MissingDataError: when PyG can neither read nor download the raw files.
        ValueError: when an argument does not fit, or PyG cannot read the files.
    """
    name = getattr(make, "__name__", "data set")
    parameters = signature(make).parameters
    unknown = [option for option in options if option not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(
            f"options: got {unknown[0]!r} for {name}, expected some of {', '.join(parameters)}"
        )
    folder = data_root(root) / "pyg" / name
    place = {"root": str(folder)} if "root" in parameters else {}
    try:
        return list(make(**place, **options))
    except (OSError, ClientError, asyncio.TimeoutError, BadZipFile) as error:
        raise MissingDataError(
            f"{name}: PyG can neither read nor download its files ({error}); put the raw files "
            f"into {folder / 'raw'}"
        ) from error
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name}: PyG cannot make this data set ({type(error).__name__}: {line}), expected "
            "raw files of its published format and options that it has"
        ) from error


def _one_hot(values: Tensor | None, categories: int, field: str) -> Tensor:
    """Return categories [n, 1] as float [n, categories].

    Raises:
        ValueError: when one is out of range, or there are several columns, or none.
    """
    if values is None or values.ndim != 2 or values.shape[1] != 1:
        shape = None if values is None else tuple(values.shape)
        raise ValueError(f"one_hot: got {field} of shape {shape}, expected a column of categories")
    index = values[:, 0].long()
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < categories:
        raise ValueError(
            f"one_hot: got {categories} for values of {field} from {int(index.min())} to "
            f"{int(index.max())}, expected more than the largest; raise it"
        )
    return torch.nn.functional.one_hot(index, categories).float()
