"""Edges to be classified: the bonds of molecules."""

from __future__ import annotations

from torch_geometric.data import Data

from graphformer.data.graphs import TUDataset


class TUEdges(TUDataset):
    """A TU set whose edges have kinds, which are to be told from the rest of the graph.

    `edge_label_index` [2, P] holds all edges, both ways, and `edge_label` [P] their kinds, of which
    there are `num_classes`; the graphs keep their edges, but nothing of what these carry. The
    graphs are dealt out whole, as `TUDataset` does it, so that no edge is trained on from behind.

    Raises:
        MissingDataError: a file is not there and cannot be fetched.
        ValueError: the edges of the set have no kinds.
    """

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs and deal them out."""
        super().setup(stage)
        self.num_classes = self.num_edge_kinds

    def read(self) -> list[Data]:
        """Return the collection's graphs."""
        graphs = super().read()
        self.num_edge_kinds = graphs[0].num_edge_features - self.num_edge_attributes
        if not self.num_edge_kinds:
            raise ValueError(
                f"{self.dataset} has no kinds of edges to tell: take a set with a file "
                "*_edge_labels.txt, such as MUTAG."
            )
        for graph in graphs:
            graph.edge_label_index = graph.edge_index
            graph.edge_label = graph.edge_attr[:, self.num_edge_attributes :].argmax(1)
            del graph.edge_attr
        return graphs
