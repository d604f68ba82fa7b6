"""Data sets of one graph with labelled nodes: PyG's collections, and a graph of digits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures
from torch_geometric.utils import to_undirected

from graphformer.data.base import SPLITS, DataModule
from graphformer.data.checks import check_finite, one_of
from graphformer.data.graph.encodings import add_encodings, union_with_encodings
from graphformer.data.graph.labels import count_classes
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.data.io.cache import data_root
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.vision.datasets import read_digits
from graphformer.deprecated import renamed_keywords


class FullGraph(DataModule):
    """Base of data sets of one graph, the only batch of every epoch.

    The batch is the same object each time, so that its adjacency is cached. It has x [N, F],
    edge_index [2, E], y [N], `train_mask`, `val_mask` and `test_mask` [N], `lengths` (N,), and the
    fields of the `encodings`. `num_features` and `num_classes` are set by `setup`.

    Raises:
        ValueError: when a feature is NaN or infinite, or labels are no classes from 0.
    """

    num_features: int
    num_classes: int
    graph: Data | None = None
    encodings: list[str] | None = None

    @abstractmethod
    def read(self) -> Data:
        """Return the graph: x, edge_index, y, and the masks of the three splits."""

    def transform(self, graph: Data) -> Data:
        """Return a graph with its features as the model reads them; the graph itself by default."""
        return graph

    def pack(self, inputs: Sequence[Data]) -> Data:
        """Return graphs with the features and encodings of training, as one batch."""
        return union_with_encodings([self.transform(graph) for graph in inputs], self.encodings)

    def setup(self, stage: str | None = None) -> None:
        """Read and check the graph, and add encodings, once."""
        if self.graph is not None:
            return
        graph = self.read()
        check_finite(type(self).__name__, graph)
        (self.graph,) = add_encodings([graph], self.encodings)
        self.graph.lengths = (self.graph.num_nodes,)
        self.num_features = self.graph.num_node_features
        for name, count in count_types(self.graph).items():
            setattr(self, name, count)
        if "y" in self.graph:
            self.num_classes = self.count_classes(self.graph.y)

    def count_classes(self, y: Tensor) -> int:
        """Return the number of classes of labels [N]; 0 for real values, K for [N, K]."""
        return count_classes(type(self).__name__, y)

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the whole graph for any split; its masks mark the nodes of each.

        Raises:
            RuntimeError: before `setup`.
        """
        if self.graph is None:
            raise RuntimeError(f"{type(self).__name__} has no graph yet; call setup() first")
        return BatchLoader(_SingleGraph(self.graph), BatchSampler(1, 1))


def count_types(graph: Data) -> dict[str, int]:
    """Return num_node_types and num_edge_types of a graph, up to the highest type that occurs.

    A graph without types of nodes, or of edges, has no number of them.
    """
    fields = {"num_node_types": graph.get("node_type"), "num_edge_types": graph.get("edge_type")}
    return {name: int(t.max()) + 1 for name, t in fields.items() if t is not None and len(t)}


def graph_state(source: object) -> dict[str, Any]:
    """Return the state of the data set that a data module divides or samples, for its own state."""
    state = source.state_dict() if isinstance(source, FullGraph) else {}
    return {"graph": state} if state else {}


def restore_graph(source: object, state: dict[str, Any]) -> bool:
    """Restore a data set from what `graph_state` added to a state; whether it was read again."""
    if not isinstance(source, FullGraph) or "graph" not in state:
        return False
    before = source.graph
    source.load_state_dict(state["graph"])
    return before is not None and source.graph is not before


class _SingleGraph:
    """A data set of one item; `to` moves a graph in place, so it is copied to a device once."""

    def __init__(self, graph: Data) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Tensor) -> Data:
        return self.graph


class Planetoid(FullGraph):
    """Cora, CiteSeer or PubMed: citation graphs with 20 training labels a class.

    The raw files are `root`/planetoid/<name>/raw/ind.*; PyG downloads missing ones.

    Args:
        name: Cora, CiteSeer or PubMed.
        split: "public" (Yang et al., 2016); "full", which trains on all nodes that are not for
            validation or testing; or "random".
        train_fraction, val_fraction: of the nodes, with a random split; the rest is for testing.
        split_seed: of a random split.
        normalize_features: divide each row of x by its sum.
        sparse: store the features as `SparseFeatures`, which skip zeros in dropout and products.
        root: folder of raw data; by default $GRAPHFORMER_DATA or `data`.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.

    Raises:
        MissingDataError: when a raw file is missing and cannot be downloaded.
        ValueError: for an unknown name or split, or fractions that leave a split empty.

    Source: Yang et al., 2016, https://arxiv.org/abs/1603.08861.
    """

    def __init__(
        self,
        name: str = "Cora",
        *,
        split: str = "public",
        train_fraction: float = 0.2,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        normalize_features: bool = True,
        sparse: bool = True,
        root: str | None = None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.encodings = encodings
        self.sparse = sparse
        self.dataset = one_of("name", name, ["Cora", "CiteSeer", "PubMed"])
        self.split = one_of("split", split, ["public", "full", "random"])
        if not (train_fraction > 0 and val_fraction > 0 and train_fraction + val_fraction < 1):
            raise ValueError(
                f"train_fraction and val_fraction: got {train_fraction} and {val_fraction}, "
                "expected numbers above 0 with a sum below 1"
            )
        self.train_fraction, self.val_fraction = train_fraction, val_fraction
        self.split_seed = split_seed
        self.normalize_features, self.root = normalize_features, root
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download missing files and compute encodings, in one process of a distributed run."""
        self.setup()

    def read(self) -> Data:
        """Return the citation graph with the masks of the chosen split."""
        endings = ["x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"]
        files = [f"ind.{self.dataset.lower()}.{ending}" for ending in endings]
        root = collection_root(data_root(self.root), "planetoid", self.dataset)
        is_random = self.split == "random"
        split = "public" if is_random else self.split
        data = load_pyg(
            datasets.Planetoid, root, self.dataset, files, name=self.dataset, split=split
        )[0]
        return self.transform(self._divided(data) if is_random else data)

    def _divided(self, graph: Data) -> Data:
        """Return the graph with the masks of the random split."""
        generator = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(graph.num_nodes, generator=generator)
        train = round(self.train_fraction * len(order))
        stops = [train, train + round(self.val_fraction * len(order))]
        graph = copy(graph)
        for split, nodes in zip(SPLITS, order.tensor_split(stops), strict=True):
            graph[f"{split}_mask"] = torch.zeros(len(order), dtype=torch.bool)
            graph[f"{split}_mask"][nodes] = True
        return graph

    def transform(self, graph: Data) -> Data:
        """Return a graph with normalized and sparse features, where these are asked for."""
        graph = NormalizeFeatures()(graph) if self.normalize_features else copy(graph)
        if self.sparse:
            graph.x = SparseFeatures(graph.x)
        return graph


class HeterophilousGraph(FullGraph):
    """Roman-empire, Amazon-ratings, Minesweeper, Tolokers or Questions, with ten fixed splits.

    Edges are in both directions. The raw file is `root`/heterophilous/<name in snake case>/raw/
    *.npz; PyG downloads it if it is missing.

    Args:
        name: name of the graph.
        split: index of the fixed split, 0 to 9.
        normalize_features: divide each row of x by its sum.
        root: folder of raw data; by default $GRAPHFORMER_DATA or `data`.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.

    Raises:
        MissingDataError: when the file is missing and cannot be downloaded.
        ValueError: for an unknown name or split.

    Source: Platonov et al., 2023, https://arxiv.org/abs/2302.11640.
    """

    fold_setting = "split"
    num_folds = 10

    def __init__(
        self,
        name: str = "Tolokers",
        *,
        split: int = 0,
        normalize_features: bool = False,
        root: str | None = None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.encodings = encodings
        names = ["Roman-empire", "Amazon-ratings", "Minesweeper", "Tolokers", "Questions"]
        self.dataset = one_of("name", name, names)
        if not 0 <= split <= 9:
            raise ValueError(f"split: got {split}, expected 0 to 9, one of the ten fixed splits")
        self.split, self.normalize_features, self.root = split, normalize_features, root
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download the missing file and compute encodings, in one process only."""
        self.setup()

    def read(self) -> Data:
        """Return the graph with one column of PyG's ten masks."""
        folder = self.dataset.lower().replace("-", "_")
        root = collection_root(data_root(self.root), "heterophilous", folder)
        data = load_pyg(
            datasets.HeterophilousGraphDataset, root, folder, [f"{folder}.npz"], name=self.dataset
        )[0]
        for mask in ("train_mask", "val_mask", "test_mask"):
            data[mask] = data[mask][:, self.split].contiguous()
        return self.transform(data)

    def transform(self, graph: Data) -> Data:
        """Return a graph with normalized features, if these are asked for."""
        return NormalizeFeatures()(graph) if self.normalize_features else graph


class DigitsGraph(FullGraph):
    """scikit-learn's handwritten digits as nodes, with edges from the most similar digits.

    x [1797, 64] are the pixels from 0 to 1, plus Gaussian noise. Nearest neighbours are computed
    without the noise: the higher it is, the more the edges help.

    Args:
        neighbors: number of nearest digits with an edge to each digit.
        labels_per_class: training nodes of each class.
        noise: standard deviation of the noise.
        undirected: add the edges in the other direction.
        val_size: validation nodes; all others are for testing.
        seed: random seed of splits and noise.

    Raises:
        ValueError: for a negative noise, and in `setup` for sizes that leave a split empty.
    """

    def __init__(
        self,
        neighbors: int = 8,
        labels_per_class: int = 20,
        *,
        noise: float = 0.0,
        undirected: bool = True,
        val_size: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not noise >= 0:
            raise ValueError(f"noise: got {noise}, expected a standard deviation of 0 or more")
        self.neighbors, self.labels_per_class, self.noise = neighbors, labels_per_class, noise
        self.undirected, self.val_size, self.seed = undirected, val_size, seed
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the nearest-neighbour graph of the digits with noisy pixels."""
        images, y = read_digits()
        x = images.flatten(1) / 16
        generator = np.random.default_rng(self.seed)
        masks = _draw_masks(y, self.labels_per_class, self.val_size, generator)
        edge_index = nearest_neighbors(x, self.neighbors)
        if self.undirected:
            edge_index = to_undirected(edge_index, num_nodes=len(x))
        noise = torch.from_numpy(generator.standard_normal(x.shape)).float()
        return Data(x=x + self.noise * noise, edge_index=edge_index, y=y, **masks)


def nearest_neighbors(x: Tensor, k: int) -> Tensor:
    """Return edge_index [2, N * k]: to each point of x [N, F] from its k nearest other points.

    Raises:
        ValueError: for k below 1, or of N or more.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import, and rarely needed

    if not 1 <= k < len(x):
        raise ValueError(f"neighbors: got {k}, expected 1 to {len(x) - 1} for {len(x)} nodes")
    # kneighbors() without points leaves each point out of its own neighbours.
    found = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False)
    source = torch.from_numpy(found).flatten().long()
    return torch.stack([source, torch.arange(len(x)).repeat_interleave(k)])


def _draw_masks(
    y: Tensor, labels_per_class: int, val_size: int, generator: np.random.Generator
) -> dict[str, Tensor]:
    """Return the masks [N] of random splits, with the same number of training nodes a class."""
    order = torch.from_numpy(generator.permutation(len(y)))
    classes = [order[y[order] == c] for c in range(int(y.max()) + 1)]
    smallest = min(len(c) for c in classes)
    if not 1 <= labels_per_class < smallest:
        raise ValueError(
            f"labels_per_class: got {labels_per_class}, expected 1 to {smallest - 1}, less than "
            "the nodes of the smallest class"
        )
    train = torch.cat([c[:labels_per_class] for c in classes])
    rest = order[~torch.isin(order, train)]
    if not 0 < val_size < len(rest):
        raise ValueError(f"val_size: got {val_size}, expected 1 to {len(rest) - 1} nodes")
    nodes = {"train_mask": train, "val_mask": rest[:val_size], "test_mask": rest[val_size:]}
    return {name: _mask(indices, len(y)) for name, indices in nodes.items()}


def _mask(nodes: Tensor, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask
