"""Mini-batches of one large graph: sampled neighbourhoods or random clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.adjacency import CSR, from_edge_index
from graphformer.batch_type import Batch
from graphformer.data.base import DataModule
from graphformer.data.graph.node_datasets import (
    FullGraph,
    count_types,
    graph_state,
    restore_graph,
)
from graphformer.data.graph.out_of_core.folder import GraphFolder
from graphformer.data.graph.out_of_core.names import NodeNames
from graphformer.data.graph.out_of_core.stores import StoredGraph, stored_adjacency
from graphformer.data.graph.own.tables import NodeNameList
from graphformer.data.graph.sampling import extract_subgraph, induced_subgraph, sample_neighbors
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.deprecated import renamed_keywords

_SPLITS = ("train", "val", "test")


class NeighborNodes(DataModule):
    """Batches of labelled nodes with sampled neighbourhoods, or training on random clusters.

    A batch holds `batch_size` labelled nodes, the sampled neighbours and the sampled edges, as
    `sampling.extract_subgraph` returns them. The mask of its split, such as `train_mask`, marks
    those labelled nodes and no others.

    With `clusters` each training epoch partitions all nodes at random into that many parts, and a
    batch is one part with the edges inside; validation and testing still sample neighbourhoods.
    Samples depend on (seed, epoch, batch) only, so a resumed run repeats them, and several ranks
    together train as one process with the same global batch, if the fan-outs of all layers are
    equal or the neighbourhoods disjoint.

    Args:
        graph: a full-graph data set, or the folder of a stored graph.
        fanouts: number of neighbours to draw for a node, one number a layer; -1 for all.
        batch_size: number of labelled nodes in a batch.
        eval_fanouts: fan-outs of validation and testing; `fanouts` by default.
        replace: draw with replacement.
        disjoint: sample a separate neighbourhood for each labelled node; the batch then has a
            sample for each.
        clusters: number of random parts of the graph to train on.
        num_workers: number of processes that sample batches; 0 samples in this process.
        seed: random seed of order and draws.

    Attributes:
        class_names: of the classes, where the graph has names; part of checkpoints.
        layerwise: whether all batches are nodes in order without edges, because their outputs are
            known; the split "all" then has all nodes.

    Raises:
        ValueError: for `clusters` below 1.

    Source: Hamilton et al., 2017 (GraphSAGE); clusters: Chiang et al., 2019 (Cluster-GCN).
    """

    def __init__(
        self,
        graph: FullGraph | GraphFolder,
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
            raise ValueError(f"clusters: got {clusters}, expected 1 or more, or None")
        self.source, self.batch_size = graph, batch_size
        self.fanouts, self.eval_fanouts = fanouts, eval_fanouts or fanouts
        self.replace, self.disjoint, self.clusters = replace, disjoint, clusters
        self.num_workers, self.seed = num_workers, seed
        self.adjacency: CSR | None = None
        self.class_names: list[str] = []
        self.layerwise = False

    def prepare_data(self) -> None:
        """Download the files of the graph that are missing."""
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Read the graph and sort its edges by target, once; a stored graph is only opened."""
        if self.adjacency is not None:
            return
        self.source.setup(stage)
        graph = self._graph()
        self.num_features, self.num_classes = self.source.num_features, self.source.num_classes
        if isinstance(graph, Data):
            for name, count in count_types(graph).items():
                setattr(self, name, count)
        names = getattr(self.source if isinstance(graph, Data) else graph, "class_names", [])
        self._set_class_names(names)
        if isinstance(graph, Data):
            self.adjacency = from_edge_index(graph.edge_index, graph.num_nodes, coalesce=False)
        else:
            self.adjacency = stored_adjacency(graph)

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return sampled neighbourhoods of the nodes of a split, or clusters for training.

        Raises:
            RuntimeError: before `setup`.
        """
        graph, training = self._graph(), split == "train" and not self.layerwise
        assert self.adjacency is not None
        if training and self.clusters is not None:
            size = -(-graph.num_nodes // self.clusters)
            order = BatchSampler(graph.num_nodes, size, shuffle=True, seed=self.seed)
            clusters = ClusterDataset(graph, self.adjacency)
            return BatchLoader(clusters, order, num_workers=self.num_workers)
        nodes = self._nodes(split)
        order = BatchSampler(len(nodes), self.batch_size, shuffle=training, seed=self.seed)
        neighborhoods = NeighborhoodDataset(
            graph,
            self.adjacency,
            nodes,
            [] if self.layerwise else self.fanouts if training else self.eval_fanouts,
            split=split,
            order=order,
            replace=self.replace,
            disjoint=self.disjoint,
        )
        return BatchLoader(neighborhoods, order, num_workers=self.num_workers)

    @property
    def node_names(self) -> NodeNames | NodeNameList | None:
        """The names of the nodes, where the graph has some."""
        source = self.source if hasattr(self.source, "node_names") else self.source.graph
        return getattr(source, "node_names", None)

    def state_dict(self) -> dict[str, Any]:
        """Return the names of the classes, and the state of the data set."""
        state = {**super().state_dict(), **graph_state(self.source)}
        return {**state, "class_names": list(self.class_names)} if self.class_names else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the data set, which may read it again, and the names of the classes.

        Raises:
            ValueError: when those of the graph are others.
        """
        super().load_state_dict(state_dict)
        if restore_graph(self.source, state_dict):
            self.adjacency = None
            self.class_names = list(state_dict.get("class_names", []))
            self.setup()
        self._set_class_names(list(state_dict.get("class_names", [])))

    def _set_class_names(self, names: list[str]) -> None:
        if self.class_names and names and names != self.class_names:
            raise ValueError(
                f"class_names: got the classes {names}, expected {self.class_names}; the graph and "
                "the checkpoint must have the same, so write the graph with these"
            )
        self.class_names = names or self.class_names

    def _nodes(self, split: str) -> Tensor:
        """Return the nodes of a split, int64 [n]."""
        graph = self._graph()
        if split == "all":
            return torch.arange(graph.num_nodes)
        if isinstance(graph, Data):
            return graph[f"{split}_mask"].nonzero().flatten()
        return graph.split_nodes(split)

    def _graph(self) -> Data | StoredGraph:
        if self.source.graph is None:
            raise RuntimeError(f"{type(self).__name__} has no graph yet; call setup() first")
        return self.source.graph


class NeighborhoodDataset:
    """The labelled nodes of a split; an item is a batch of them with sampled neighbourhoods.

    Args:
        graph: the whole graph.
        adjacency: its edges by target, not coalesced.
        nodes: the labelled nodes, int64 [n].
        fanouts: number of neighbours to draw, one number a layer.
        split: name of the split, whose mask marks the labelled nodes of a batch.
        order: the sampler of the batches; its epoch and seed select the draws.
        replace, disjoint: as in `sample_neighbors`.
    """

    def __init__(
        self,
        graph: Data | StoredGraph,
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
        self._firsts: tuple[int, dict[int, int]] = (-1, {})

    def __getstate__(self) -> dict[str, Any]:
        is_stored = not isinstance(self.graph, Data)
        return {**self.__dict__, "adjacency": None} if is_stored else dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self.graph, Data):  # a worker maps the files itself
            self.adjacency = stored_adjacency(self.graph)

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: Tensor) -> Batch:
        # One seed for each (run, epoch, batch); a batch is identified by its first item, of all
        # ranks together, which a resumed run has too.
        order = self.order
        first = self._first_of_all_ranks(int(index[0])) if len(index) else 0
        seed = (order.seed * 1_000_003 + order.order_epoch) * len(self.nodes) + first
        sample = sample_neighbors(
            self.adjacency,
            self.nodes[index],
            self.fanouts,
            replace=self.replace,
            disjoint=self.disjoint,
            roots=order.rank + order.world_size * torch.arange(len(index)),
            seed=seed % 2**63,
        )
        batch = extract_subgraph(self.graph, self.adjacency, sample)
        for split in (*_SPLITS, self.split):
            batch[f"{split}_mask"] = torch.zeros(len(sample.nodes), dtype=torch.bool)
        seeds = batch.ptr[:-1] if self.disjoint else torch.arange(len(index))
        batch[f"{self.split}_mask"][seeds] = True
        return batch

    def _first_of_all_ranks(self, first: int) -> int:
        """Return the first item of the batch of all ranks to which a rank's batch belongs."""
        order = self.order
        if order.world_size == 1:
            return first
        if self._firsts[0] != order.order_epoch:
            items = order.epoch_order()
            own = items[order.rank :: order.world_size][:: order.batch_size]
            firsts = dict(zip(own.tolist(), items[:: order.step].tolist(), strict=False))
            self._firsts = (order.order_epoch, firsts)
        return self._firsts[1].get(first, first)  # a batch of padding is in no batch


class ClusterDataset:
    """The nodes of a graph; an item is a set of nodes with the edges between them.

    Args:
        graph: the whole graph.
        adjacency: its edges by target, not coalesced.
    """

    def __init__(self, graph: Data | StoredGraph, adjacency: CSR) -> None:
        self.graph, self.adjacency = graph, adjacency

    def __len__(self) -> int:
        return int(self.graph.num_nodes)

    def __getitem__(self, index: Tensor) -> Batch:
        return extract_subgraph(self.graph, self.adjacency, induced_subgraph(self.adjacency, index))
