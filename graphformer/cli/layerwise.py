"""`--layerwise`: nodes of one large graph with all of their edges, in place of sampled ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer.adjacency import Adjacency
from graphformer.batch_type import BatchLike
from graphformer.cli.errors import UsageError
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.patterns import Edges
from graphformer.tasks import Task
from graphformer.tasks.graph.layerwise import predict_whole_graph
from graphformer.tasks.graph.stored_inference import predict_stored_graph


class NodeOutputs(nn.Module):
    """A network whose outputs are known: those of the nodes `n_id` of a batch.

    Args:
        outputs: of all nodes, [N, K], perhaps on a memory map.
    """

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the outputs [n, K] of the nodes of a batch."""
        return self.outputs[batch.n_id.cpu()].to(batch.n_id.device)


class LayerwiseOutputs(Callback):
    """Replaces the network by its outputs for all nodes, while a split is evaluated or predicted.

    The outputs are computed layer by layer; those of a stored graph are in files.

    Args:
        folder: for files, N C numbers a layer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the outputs with the weights that the trainer has loaded."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Task)
        self._network = pl_module.network
        outputs = _all_outputs(pl_module, data, self.folder / "outputs.npy")
        pl_module.network = NodeOutputs(outputs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the network."""
        pl_module.network = self._network

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end


def _all_outputs(task: Task, data: NeighborNodes, path: Path) -> Tensor:
    """Return the outputs of all nodes [N, K], those of a stored graph on a memory map of `path`."""
    graph = data.source.graph
    network, adjacency, device = task.network, task.adjacency, task.device
    try:
        network.cpu()  # where the graph is
        if isinstance(graph, Data):
            return predict_whole_graph(network, graph, adjacency)
        assert graph is not None
        if not isinstance(adjacency, Edges):
            raise UsageError(
                f"--layerwise: got the adjacency {adjacency}, expected Edges() or "
                "Edges(self_loops=True) for a graph on disk; store the edges of other adjacencies"
            )
        return predict_stored_graph(network, graph, path, adjacency)
    finally:
        network.to(device)


class StreamPredictions(Callback):
    """Passes the outputs of nodes on, batch after batch, so that no more than one is in memory.

    Args:
        write: called with the numbers of nodes [n] and their outputs [n, K].
    """

    def __init__(self, write: Callable[[Tensor, Tensor], None]) -> None:
        self.write = write

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor,
        batch: BatchLike,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Pass on the rows of a batch."""
        self.write(batch.n_id.cpu(), outputs.detach().cpu())


def choose_layerwise(data: pl.LightningDataModule, trainer: pl.Trainer) -> None:
    """Let the batches of a data module hold nodes without edges, for known outputs.

    Raises:
        UsageError: when its batches are no sampled neighbourhoods, or there are several processes.
    """
    if trainer.world_size > 1:
        raise UsageError(
            f"--layerwise: got {trainer.world_size} processes, expected one, which computes all "
            "nodes; set --trainer.devices 1"
        )
    if not isinstance(data, NeighborNodes):
        raise UsageError(
            f"--layerwise: got true with {type(data).__name__}, expected sampled neighbourhoods, "
            "such as StoredNodes; leave it out, because other data evaluate all edges anyway"
        )
    data.layerwise = True
