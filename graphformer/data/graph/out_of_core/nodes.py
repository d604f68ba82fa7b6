"""`StoredNodes`, the data module of a graph on disk."""

from __future__ import annotations

from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.out_of_core.folder import GraphFolder


class StoredNodes(NeighborNodes):
    """Sampled neighbourhoods of a graph that stays on disk, for graphs larger than memory.

    Edges and fields are read from memory maps, those of a batch only. The folder is written by
    `graphformer.data.write_graph`, `convert_arrays`, `convert_tables` or `convert_ogb`.

    Args:
        path: folder of the graph, as it is or under the data root.
        fanouts, batch_size, eval_fanouts, replace, disjoint: as in `NeighborNodes`.
        num_workers: number of processes that sample and read batches while this one trains.
        root: the data root.
        seed: random seed of order and draws.

    Raises:
        MissingDataError: in `setup`, when there is no such folder.
    """

    def __init__(
        self,
        path: str,
        fanouts: list[int],
        batch_size: int = 1024,
        *,
        eval_fanouts: list[int] | None = None,
        replace: bool = False,
        disjoint: bool = False,
        num_workers: int = 0,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            GraphFolder(path, root),
            fanouts,
            batch_size,
            eval_fanouts=eval_fanouts,
            replace=replace,
            disjoint=disjoint,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
