"""Own graphs of labelled nodes: `NodeTables` and `NodeFile`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.utils import to_undirected

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import run_seed
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.graph_files import read_graph
from graphformer.data.graph.own.hetero import join_types
from graphformer.data.graph.own.tables import (
    Columns,
    NodeNameList,
    column,
    edge_ends,
    features,
    find_categories,
    node_numbers,
    numbers,
    read_columns,
)
from graphformer.data.io.tabular import find_file
from graphformer.data.label_sets import label_numbers, labels_of, sort_labels

_SPLITS = ("train", "val", "test")


class OwnGraph(FullGraph):
    """Base of own graphs of nodes, whose splits are in the data or drawn at random.

    Args:
        val_fraction, test_fraction: of the labelled nodes, where the data have no splits.
        undirected: add the edges in the other direction.
        seed: random seed of the splits; None for the seed of the run.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.

    Attributes:
        class_names: name of each class, where labels are text; part of checkpoints.
        category_names: the categories of each column that is encoded; part of checkpoints.
        restored_classes: number of classes of a restored checkpoint, with which the labels may be
            missing; else None.
        node_names: names of the nodes, for predictions; None where they have none.
    """

    def __init__(
        self,
        *,
        val_fraction: float,
        test_fraction: float,
        undirected: bool,
        seed: int | None,
        encodings: list[str] | None,
    ) -> None:
        super().__init__()
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction and test_fraction: got {val_fraction} and {test_fraction}, expected "
                "both above 0 and a sum below 1"
            )
        self.fractions, self.undirected = (val_fraction, test_fraction), undirected
        self.seed, self.encodings = seed, encodings
        self.class_names: list[str] = []
        self.category_names: dict[str, list[str]] = {}
        self.restored_classes: int | None = None
        self.node_names: NodeNameList | None = None

    @abstractmethod
    def read_own(self) -> Data:
        """Return the graph, with masks if the data have splits."""

    def read(self) -> Data:
        """Return the graph with the masks of the three splits."""
        graph = self.read_own()
        if self.undirected:
            graph.edge_index, graph.edge_attr = _both_directions(graph)
        if graph.get("train_mask") is None:
            graph.update(self._draw_masks(graph.y))
        return graph

    def pack(self, inputs: Sequence[Data | HeteroData]) -> Data:
        """Return graphs as one batch; a `HeteroData` is joined as `NodeFile` does."""
        joined = [join_types(graph) if isinstance(graph, HeteroData) else graph for graph in inputs]
        return super().pack(joined)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of classes, and names of classes and categories, for a checkpoint."""
        names = {"class_names": self.class_names, "category_names": self.category_names}
        stored = {key: copy(found) for key, found in names.items() if found}
        # The graph is not in memory after `PartitionedGraph` has divided it.
        is_set_up = hasattr(self, "num_classes")
        counts = {"num_classes": self.num_classes} if is_set_up else {}
        return {**super().state_dict(), **counts, **stored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returns; a graph that was read by other names is read again."""
        super().load_state_dict(state_dict)
        names = self.class_names, self.category_names
        self.class_names = list(state_dict.get("class_names", self.class_names))
        self.category_names = dict(state_dict.get("category_names", self.category_names))
        self.restored_classes = state_dict.get("num_classes", len(self.class_names) or None)
        if self.graph is not None and names != (self.class_names, self.category_names):
            self.graph = None
            self.setup()

    def count_classes(self, y: Tensor) -> int:
        """Return the number of classes, of a restored checkpoint if there is one."""
        restored = self.restored_classes
        return super().count_classes(y) if restored is None else restored

    def _draw_masks(self, y: Tensor) -> dict[str, Tensor]:
        labelled = torch.ones(len(y), dtype=torch.bool)
        if not y.is_floating_point():
            labelled = (y != IGNORE_INDEX).reshape(len(y), -1).any(1)
        nodes = labelled.nonzero()[:, 0].numpy()
        seed = run_seed() if self.seed is None else self.seed
        order = np.random.default_rng(seed).permutation(nodes)
        val, test = (max(1, round(len(nodes) * fraction)) for fraction in self.fractions)
        parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
        return {f"{split}_mask": _mask(part, len(y)) for split, part in parts.items()}


class NodeTables(OwnGraph):
    """A graph of two tables: nodes and edges (.csv, .tsv, .jsonl or .parquet, with a header).

    Args:
        nodes, edges: the files, as they are or under the data root.
        id: column of the nodes' names, which the edges refer to; None for row numbers from 0.
        label: column of the class; an empty cell is a node without a label.
        label_separator: between the labels of a node, such as ";", for the task
            MultiLabelClassification; y is then [N, K].
        source, target: columns of the edges.
        features: columns of numbers; None for all columns of numbers that are not named otherwise.
        categories: columns of text or numbers that are encoded one-hot, with the categories of
            training; another one in another file is an error.
        edge_features: columns of the edges that become `edge_attr`.
        split: column with train, val or test; None for random splits of the labelled nodes.
        regression: whether labels are real values.
        encoding: of the files, such as "latin-1".
        undirected, val_fraction, test_fraction, seed, encodings: as in `OwnGraph`.
        root: the data root.

    Raises:
        MissingDataError: when a file is missing.
        ValueError: when a column is missing, a cell is no number, or an edge names no node.
    """

    def __init__(
        self,
        nodes: str = "nodes.csv",
        edges: str = "edges.csv",
        *,
        id: str | None = "id",
        label: str = "label",
        label_separator: str | None = None,
        source: str = "source",
        target: str = "target",
        features: list[str] | None = None,
        categories: Sequence[str] = (),
        edge_features: Sequence[str] = (),
        split: str | None = None,
        regression: bool = False,
        encoding: str = "utf-8",
        undirected: bool = True,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            undirected=undirected,
            seed=seed,
            encodings=encodings,
        )
        self.nodes, self.edges, self.id, self.label = nodes, edges, id, label
        self.source, self.target, self.label_separator = source, target, label_separator
        self.features, self.categories, self.edge_features = features, categories, edge_features
        self.split, self.regression, self.root, self.encoding = split, regression, root, encoding
        self.save_hyperparameters(logger=False)

    def read_own(self) -> Data:
        """Return the graph of the tables."""
        nodes = read_columns(self.nodes, self.root, self.encoding)
        num_nodes = len(next(iter(nodes.values())))
        other = [name for name in (self.id, self.label, self.split) if name is not None]
        self.category_names = find_categories(
            nodes, self.categories, self.category_names, self.nodes
        )
        x = features(nodes, self.features, self.category_names, self.nodes, other=other)
        x = torch.ones(num_nodes, 1) if x is None else x
        labels = self._label_column(nodes, num_nodes)
        graph = Data(x=x, y=self._labels(labels))
        graph.update(self._edges(nodes))
        if self.split is not None:
            graph.update(self._masks(column(nodes, self.split, self.nodes)))
        return graph

    def _label_column(self, nodes: Columns, num_nodes: int) -> list[Any]:
        """Return the labels; of new nodes, which a trained model predicts, they may be missing."""
        if self.restored_classes is not None and self.label not in nodes:
            return [None] * num_nodes
        return column(nodes, self.label, self.nodes)

    def _labels(self, values: list[Any]) -> Tensor:
        if self.regression and set(values) == {None}:
            return torch.zeros(len(values))
        if self.regression:
            return numbers(values, self.label, self.nodes)
        texts = ["" if value is None else str(value) for value in values]
        labelled = torch.tensor([bool(text.strip()) for text in texts])
        given = [text for text in texts if text.strip()]
        separator = self.label_separator
        found = {label for text in given for label in labels_of(text, separator)}
        self.class_names = self.class_names or sort_labels(found)
        classes = label_numbers(given, self.class_names, separator, self.nodes)
        y = classes.new_full((len(texts), *classes.shape[1:]), IGNORE_INDEX)
        y[labelled] = classes
        return y

    def _edges(self, nodes: Columns) -> dict[str, Tensor]:
        names = node_numbers(nodes, self.id, self.nodes)
        self.node_names = None if self.id is None else NodeNameList(list(names))
        edges = read_columns(self.edges, self.root, self.encoding)
        found = {"edge_index": edge_ends(edges, self.source, self.target, names, self.edges)}
        attributes = features(edges, list(self.edge_features), {}, self.edges, other=())
        return found if attributes is None else {**found, "edge_attr": attributes}

    def _masks(self, values: list[Any]) -> dict[str, Tensor]:
        names = [str(value or "").lower() for value in values]
        return {
            f"{split}_mask": torch.tensor([name == split for name in names]) for split in _SPLITS
        }


class NodeFile(OwnGraph):
    """A graph of one file: .npz, .pt (a `Data` of PyG), .graphml or .gml; see `read_graph`.

    Args:
        path: the file, as it is or under the data root.
        label: name of the labels: an array, a field of `Data`, or an attribute of the nodes.
        id: array or field with the names of the nodes, of each type of a `HeteroData`, if there is
            one; the nodes of .graphml and .gml have names.
        categories: attributes (or arrays, or fields) of text or numbers that are encoded one-hot
            after the other features, with the categories of training; another one in another file
            is an error.
        node_type: of a `HeteroData`, the type of the nodes to classify. Its types of nodes and
            edges are `node_type` and `edge_type` of the batch, which networks with num_node_types
            and num_edge_types embed.
        undirected, val_fraction, test_fraction, seed, encodings: as in `OwnGraph`.
        root: the data root.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when it has no graph, or no labels.
    """

    def __init__(
        self,
        path: str,
        *,
        label: str = "y",
        id: str = "id",
        categories: Sequence[str] = (),
        node_type: str | None = None,
        undirected: bool = False,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            undirected=undirected,
            seed=seed,
            encodings=encodings,
        )
        self.path, self.label, self.node_type, self.root = path, label, node_type, root
        self.id, self.categories = id, categories
        self.save_hyperparameters(logger=False)

    def read_own(self) -> Data:
        """Return the graph of the file."""
        file = find_file(self.path, self.root)
        content = read_graph(
            file,
            label=self.label,
            id=self.id,
            node_type=self.node_type,
            classes=self.class_names,
            categories=self.categories,
            known=self.category_names,
        )
        graph, self.class_names = content.graph, content.classes
        self.category_names, self.node_names = content.categories, content.nodes
        if graph.get("y") is None and self.restored_classes is not None:
            graph.y = torch.full((len(graph.x),), IGNORE_INDEX)
        if graph.get("y") is None:
            raise ValueError(
                f"{self.path}: got no labels {self.label!r}, expected them; name others by label"
            )
        return graph


def _both_directions(graph: Data) -> tuple[Tensor, Tensor | None]:
    if graph.get("edge_type") is not None:
        raise ValueError(
            "undirected: got True for a graph with types of edges, expected False; add reverse "
            "edges with types of their own (torch_geometric.transforms.ToUndirected)"
        )
    attributes = graph.get("edge_attr")
    if attributes is None:
        return to_undirected(graph.edge_index, num_nodes=graph.num_nodes), None
    both: tuple[Tensor, Tensor] = to_undirected(
        graph.edge_index, attributes, num_nodes=graph.num_nodes, reduce="mean"
    )
    return both


def _mask(nodes: np.ndarray, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[torch.from_numpy(nodes)] = True
    return mask
