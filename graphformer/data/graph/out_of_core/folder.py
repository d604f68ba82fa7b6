"""`GraphFolder`, a stored graph as the source of a data module."""

from __future__ import annotations

from pathlib import Path

from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph, StoredGraph
from graphformer.data.io.cache import MissingDataError, data_root


class GraphFolder:
    """The folder of a stored graph, which `setup` opens.

    Args:
        path: of the folder, as it is or under the data root.
        root: the data root.

    Attributes:
        graph: the graph, or None before `setup`.
    """

    num_features: int
    num_classes: int

    def __init__(self, path: str, root: str | None = None) -> None:
        self.path, self.root = path, root
        self.graph: StoredGraph | None = None

    def prepare_data(self) -> None:
        """Check that the folder exists.

        Raises:
            MissingDataError: when it does not.
        """
        self._find()

    def setup(self, stage: str | None = None) -> None:
        """Open the graph, once.

        Raises:
            MissingDataError: when the folder does not exist, or has no graph.
        """
        if self.graph is None:
            self.graph = MemoryMappedGraph(self._find())
            self.num_features, self.num_classes = self.graph.num_features, self.graph.num_classes

    def _find(self) -> Path:
        candidates = Path(self.path).expanduser(), data_root(self.root) / self.path
        for folder in candidates:
            if folder.is_dir():
                return folder
        raise MissingDataError(
            f"there is neither a folder {candidates[0].absolute()} nor {candidates[1].absolute()}; "
            "write a graph there by graphformer.data.write_graph or a converter, or set root or "
            "the variable GRAPHFORMER_DATA"
        )
