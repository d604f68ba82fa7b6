"""One graph in mini-batches: for graphs of which no whole layer fits into memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.adjacency import CSR, from_edge_index
from graphformer.data.base import DataModule
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.sampling import extract_subgraph, induced_subgraph, sample_neighbors
from graphformer.data.loader import BatchLoader, BatchSampler

_SPLITS = ("train", "val", "test")


class NeighborNodes(DataModule):
    """A graph in batches of nodes with sampled neighbourhoods, or in random clusters.

    A batch holds `batch_size` labelled nodes first, then what was drawn of their neighbours, and
    the edges drawn, as PyG's loaders give it: see `sampling.extract_subgraph`. Its mask, such as
    `train_mask`, marks those labelled nodes that the batch is about, and no others.

    With `clusters` the training batches are that many random parts of all nodes instead, new ones
    every epoch, with the edges within them; validation and testing go on sampling neighbourhoods.
    A resumed run draws what it would have drawn.

    Args:
        graph: the graph, one of the full-graph data sets.
        fanouts: how many neighbours of a node to draw, one number a layer; -1 for all.
        batch_size: labelled nodes a batch.
        eval_fanouts: those of validation and testing; the same by default.
        replace: whether a neighbour may be drawn twice.
        disjoint: give each labelled node a neighbourhood of its own.
        clusters: number of random parts of the graph to train on instead.
        seed: of order and draws.

    Source: Hamilton et al., 2017 (GraphSAGE); clusters: Chiang et al., 2019 (Cluster-GCN).
    """

    def __init__(
        self,
        graph: FullGraph,
        fanouts: list[int],
        batch_size: int = 1024,
        *,
        eval_fanouts: list[int] | None = None,
        replace: bool = False,
        disjoint: bool = False,
        clusters: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if clusters is not None and clusters < 1:
            raise ValueError(f"clusters is {clusters}: expected 1 or more, or none at all.")
        self.source, self.batch_size = graph, batch_size
        self.fanouts, self.eval_fanouts = fanouts, eval_fanouts or fanouts
        self.replace, self.disjoint, self.clusters = replace, disjoint, clusters
        self.num_workers, self.seed = num_workers, seed
        self.adjacency: CSR | None = None

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Read the graph, and order its edges by target."""
        if self.adjacency is not None:
            return
        self.source.setup(stage)
        graph = self._graph()
        self.num_features, self.num_classes = self.source.num_features, self.source.num_classes
        self.adjacency = from_edge_index(graph.edge_index, graph.num_nodes, coalesce=False)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split: sampled neighbourhoods, or clusters."""
        graph, training = self._graph(), split == "train"
        assert self.adjacency is not None
        if training and self.clusters is not None:
            size = -(-graph.num_nodes // self.clusters)
            order = BatchSampler(graph.num_nodes, size, shuffle=True, seed=self.seed)
            return BatchLoader(
                ClusterDataset(graph, self.adjacency), order, num_workers=self.num_workers
            )
        nodes = graph[f"{split}_mask"].nonzero().flatten()
        order = BatchSampler(len(nodes), self.batch_size, shuffle=training, seed=self.seed)
        sampled = NeighborhoodDataset(
            graph,
            self.adjacency,
            nodes,
            self.fanouts if training else self.eval_fanouts,
            split=split,
            order=order,
            replace=self.replace,
            disjoint=self.disjoint,
        )
        return BatchLoader(sampled, order, num_workers=self.num_workers)

    def _graph(self) -> Data:
        if self.source.graph is None:
            raise RuntimeError("NeighborNodes has no graph yet: call setup() first.")
        return self.source.graph


class NeighborhoodDataset:
    """The nodes of a split, fetched with what is drawn of their neighbourhoods."""

    def __init__(
        self,
        graph: Data,
        adjacency: CSR,
        nodes: Tensor,
        fanouts: Sequence[int],
        *,
        split: str,
        order: BatchSampler,
        replace: bool,
        disjoint: bool,
    ) -> None:
        self.graph, self.adjacency, self.nodes, self.fanouts = graph, adjacency, nodes, fanouts
        self.split, self.order, self.replace, self.disjoint = split, order, replace, disjoint

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Tensor) -> Data:
        # Known to a resumed run too: the epoch, and the batch by its first item.
        first = int(index[0]) if len(index) else 0
        seed = (self.order.seed * 1_000_003 + self.order.epoch) * len(self.nodes) + first
        sample = sample_neighbors(
            self.adjacency,
            self.nodes[index],
            self.fanouts,
            replace=self.replace,
            disjoint=self.disjoint,
            seed=seed,
        )
        batch = extract_subgraph(self.graph, self.adjacency, sample)
        for split in _SPLITS:
            batch[f"{split}_mask"] = torch.zeros(len(sample.nodes), dtype=torch.bool)
        batch[f"{self.split}_mask"][: len(index)] = True
        return batch


class ClusterDataset:
    """The nodes of a graph, fetched with the edges among those of a batch."""

    def __init__(self, graph: Data, adjacency: CSR) -> None:
        self.graph, self.adjacency = graph, adjacency

    def __len__(self) -> int:
        return int(self.graph.num_nodes)

    def __getitem__(self, index: Tensor) -> Data:
        return extract_subgraph(self.graph, self.adjacency, induced_subgraph(self.adjacency, index))
