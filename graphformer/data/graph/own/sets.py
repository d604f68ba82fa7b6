"""Sets of own graphs, and links of an own graph."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.datasets import GraphBatches, GraphBatchesOptions
from graphformer.data.graph.own.graph_files import load_tensors
from graphformer.data.io.tabular import find_file
from graphformer.options import checked_options


class GraphFile(GraphBatches):
    """Graphs with one label each: a .pt file with a list of PyG's `Data`, by `torch.save`.

    Each has x [n, F], edge_index, and perhaps edge_attr; and y [1], or y [1, K] of 0 and 1 (NaN
    where it is not known) for the task MultiLabelClassification. With level "node" y is [n] or
    [n, K].

    Args:
        path: the file, as it is or under the data root.
        level: what has labels, "graph" or "node".
        batch_size, options: as in `GraphBatches`.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when it has other content.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        batch_size: int = 32,
        *,
        level: Literal["graph", "node"] = "graph",
        **options: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.path, self.level = path, level
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the graphs of the file."""
        graphs = load_tensors(find_file(self.path, self.root))
        if not isinstance(graphs, list) or not all(isinstance(graph, Data) for graph in graphs):
            raise ValueError(f"{self.path}: got {type(graphs).__name__}, expected a list of Data")
        return [
            labelled(graph, f"{self.path}, graph {n}", self.level) for n, graph in enumerate(graphs)
        ]


def labelled(graph: Data, name: str, level: str = "graph") -> Data:
    """Return a graph with features and labels: y [1] or [1, T], of nodes [n] or [n, T].

    Raises:
        ValueError: when it has no label, or labels of nodes are not one row a node.
    """
    if graph.get("y") is None:
        raise ValueError(f"{name}: got no y, expected the label of the graph; set it")
    if graph.get("x") is None:
        graph.x = torch.ones(graph.num_nodes, 1)
    graph.x = graph.x.float()
    if graph.get("edge_attr") is not None:
        graph.edge_attr = graph.edge_attr.float().reshape(graph.num_edges, -1)
    y = graph.y
    if level == "node":
        if y.ndim == 0 or len(y) != graph.num_nodes:
            raise ValueError(
                f"{name}: got y of shape {tuple(y.shape)} for {graph.num_nodes} nodes, expected "
                "a row a node; choose level 'graph' for labels of graphs"
            )
        y = y.reshape(-1) if y.numel() == len(y) else y
    else:
        y = y.reshape(1) if y.numel() == 1 else y.reshape(1, -1)
    graph.y = _known_labels(y)
    return graph


def _known_labels(y: Tensor) -> Tensor:
    """Return labels of several columns with `IGNORE_INDEX` for NaN, if the others are 0 and 1."""
    if y.ndim != 2 or not y.is_floating_point() or not y.isnan().any():
        return y
    known = y[~y.isnan()]
    return y.nan_to_num(IGNORE_INDEX).long() if ((known == 0) | (known == 1)).all() else y
