"""`PartitionedGraph`, full-graph training on several processes, each with a part of the nodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.data import Data

from graphformer.batch_type import Batch
from graphformer.data.base import DataModule
from graphformer.data.graph.node_datasets import FullGraph, graph_state, restore_graph
from graphformer.data.graph.out_of_core.folder import GraphFolder
from graphformer.data.graph.out_of_core.names import NodeNames
from graphformer.data.graph.own.tables import NodeNameList
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.distributed.mesh import DataParallel, data_parallel
from graphformer.distributed.partition import divide_nodes, partition_graph
from graphformer.distributed.stored_part import read_part
from graphformer.patterns import Edges, Pattern


class PartitionedGraph(DataModule):
    """A graph whose nodes are divided among the processes of a distributed run.

    Each process has the features of its own nodes and the edges into them; layers of attention
    fetch the sources of other processes. Training and metrics equal those of one process, for
    models of nodes with dot-product or additive attention, and GPS with the local layers "gin" and
    "gat". The adjacency of the task is `Partitioned()`.

    Args:
        graph: a data set, which each process reads as a whole at the start; or the folder of a
            stored graph, of which each process reads a range of the nodes only.
        adjacency: pattern of the attention in the whole graph; `Edges` for a stored graph.
    """

    def __init__(self, graph: FullGraph | GraphFolder, adjacency: Pattern = Edges()) -> None:
        super().__init__()
        self.source, self.adjacency = graph, adjacency
        self._part: Batch | None = None

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, where the graph has some."""
        source = self.source.graph if isinstance(self.source, GraphFolder) else self.source
        names: list[str] = getattr(source, "class_names", [])
        return names

    @property
    def node_names(self) -> NodeNames | NodeNameList | None:
        """The names of the nodes, where the graph has some."""
        source = self.source if hasattr(self.source, "node_names") else self.source.graph
        return getattr(source, "node_names", None)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the data set."""
        return {**super().state_dict(), **graph_state(self.source)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the data set, which may read it again."""
        super().load_state_dict(state_dict)
        if restore_graph(self.source, state_dict):
            self.setup()

    def prepare_data(self) -> None:
        """Download missing files and compute encodings, in one process of a distributed run."""
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Read the graph, unless its part was made already."""
        if self._part is None:
            self.source.setup(stage)
            self.num_features = self.source.num_features
            self.num_classes = self.source.num_classes

    def batches(self, split: str) -> BatchLoader:
        """Return the part of this process, for any split; its masks mark the nodes of each.

        Raises:
            RuntimeError: before `setup`.
        """
        ranks = data_parallel(self)
        if self._part is None:
            if self.source.graph is None:
                raise RuntimeError("PartitionedGraph has no graph yet; call setup() first")
            self._part = self._make_part(ranks)
        return BatchLoader(_OnePart(self._part, ranks.size), BatchSampler(ranks.size, 1))

    def _make_part(self, ranks: DataParallel) -> Batch:
        if isinstance(self.source, GraphFolder):
            assert self.source.graph is not None
            return read_part(self.source.graph, self.adjacency, ranks)
        graph, self.source.graph = self.source.graph, None  # only the part stays in memory
        assert graph is not None
        adjacency = self.adjacency(graph)
        return partition_graph(graph, adjacency, divide_nodes(adjacency, ranks.size), ranks)


class _OnePart:
    """The part of this process, whichever of the parts is asked for."""

    def __init__(self, part: Batch, count: int) -> None:
        self.part, self.count = part, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Tensor) -> Data:
        return self.part
