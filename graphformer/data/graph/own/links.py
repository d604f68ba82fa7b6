"""Links of own graphs to predict: `LinkTables` and `LinkFile`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import Data

from graphformer.data.base import run_seed
from graphformer.data.graph.link_splits import split_links
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.graph_files import read_graph
from graphformer.data.graph.own.tables import (
    NodeNameList,
    column,
    edge_ends,
    features,
    node_numbers,
    read_columns,
)
from graphformer.data.io.tabular import find_file


class OwnLinks(FullGraph):
    """Base of links to predict in an own graph, with hidden edges as labels.

    The batch has the fields of `PlanetoidLinks`.

    Args:
        val_fraction, test_fraction: fractions of the edges that are hidden for each split.
        root: the data root.
        seed: random seed of the split; None for the seed of the run.

    Attributes:
        node_names: names of the nodes, for predictions; None where they have none.
    """

    def __init__(
        self, *, val_fraction: float, test_fraction: float, root: str | None, seed: int | None
    ) -> None:
        super().__init__()
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.root, self.seed = root, seed
        self.node_names: NodeNameList | None = None

    @abstractmethod
    def read_own(self) -> Data:
        """Return the graph: x and edge_index."""

    def read(self) -> Data:
        """Return the graph with the training edges and the pairs to predict."""
        graph = self.read_own()
        split = split_links(
            graph.edge_index,
            graph.num_nodes,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=run_seed() if self.seed is None else self.seed,
        )
        return Data(x=graph.x, **split)


class LinkTables(OwnLinks):
    """Links of a table of edges to predict, perhaps with a table of nodes (.csv, .parquet ...).

    Args:
        edges, nodes: the files, as they are or under the data root. Without `nodes`, the nodes are
            those that the edges name, and x is 1.
        id: column of the nodes' names; None for row numbers from 0.
        source, target: columns of the edges.
        features: columns of numbers of the nodes; None for all columns of numbers.
        encoding: of the files, such as "latin-1".
        val_fraction, test_fraction, root, seed: as in `OwnLinks`.

    Raises:
        MissingDataError: when a file is missing.
        ValueError: when a column is missing, a cell is no number, an edge names no node, or there
            are too few edges.
    """

    def __init__(
        self,
        edges: str = "edges.csv",
        nodes: str | None = None,
        *,
        id: str | None = "id",
        source: str = "source",
        target: str = "target",
        features: Sequence[str] | None = None,
        encoding: str = "utf-8",
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction, test_fraction=test_fraction, root=root, seed=seed
        )
        self.edges, self.nodes, self.id = edges, nodes, id
        self.source, self.target = source, target
        self.features, self.encoding = features, encoding
        self.save_hyperparameters(logger=False)

    def read_own(self) -> Data:
        """Return the graph of the tables."""
        edges = read_columns(self.edges, self.root, self.encoding)
        x = None
        if self.nodes is None:
            both = (column(edges, name, self.edges) for name in (self.source, self.target))
            names = dict.fromkeys(str(value) for values in both for value in values)
            numbers = {name: number for number, name in enumerate(names)}
        else:
            nodes = read_columns(self.nodes, self.root, self.encoding)
            numbers = node_numbers(nodes, self.id, self.nodes)
            other: list[Any] = [] if self.id is None else [self.id]
            x = features(nodes, self.features, {}, self.nodes, other=other)
        self.node_names = NodeNameList(list(numbers))
        ends = edge_ends(edges, self.source, self.target, numbers, self.edges)
        return Data(x=torch.ones(len(numbers), 1) if x is None else x, edge_index=ends)


class LinkFile(OwnLinks):
    """Links of an own graph to predict: `NodeFile`'s formats, with hidden edges as labels.

    The batch has the fields of `PlanetoidLinks`.

    Args:
        path: .npz, .pt, .graphml or .gml, as it is or under the data root; of a `HeteroData`, all
            types of edges are predicted.
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
        super().__init__(
            val_fraction=val_fraction, test_fraction=test_fraction, root=root, seed=seed
        )
        self.path = path
        self.save_hyperparameters(logger=False)

    def read_own(self) -> Data:
        """Return the graph of the file."""
        content = read_graph(find_file(self.path, self.root), label="y", labelled=False)
        self.node_names = content.nodes
        return content.graph
