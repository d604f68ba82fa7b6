"""One graph with labelled nodes: PyG's collections, and neighbours among handwritten digits."""

from __future__ import annotations

import os
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures
from torch_geometric.utils import to_undirected

from graphformer.data.base import DataModule
from graphformer.data.checks import check_finite, one_of
from graphformer.data.graph.encodings import add_encodings
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.data.io.cache import data_root
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.vision.datasets import read_digits


class FullGraph(DataModule):
    """One graph as the only batch of every epoch: the same object each time, for caches to know.

    It has x [N, F], edge_index [2, E], y [N], `train_mask`, `val_mask` and `test_mask` [N], and
    `lengths` (N,), and what the `encodings` add, named as in `graphformer.data.graph.encodings`.
    `num_features` and `num_classes` are there after `setup`.

    Raises:
        ValueError: a feature is NaN or infinite.
    """

    num_features: int
    num_classes: int
    graph: Data | None = None
    encodings: list[str] | None = None

    @abstractmethod
    def read(self) -> Data:
        """Return the graph with features, labels and the three masks."""

    def setup(self, stage: str | None = None) -> None:
        """Read the graph."""
        if self.graph is not None:
            return
        graph = self.read()
        check_finite(type(self).__name__, graph)
        (self.graph,) = add_encodings([graph], self.encodings)
        self.graph.lengths = (self.graph.num_nodes,)
        self.num_features = self.graph.num_node_features
        if "y" in self.graph:
            self.num_classes = int(self.graph.y.max()) + 1

    def batches(self, split: str) -> BatchLoader:
        """Return the whole graph, whatever the split: its masks tell the splits apart."""
        if self.graph is None:
            raise RuntimeError(f"{type(self).__name__} has no graph yet: call setup() first.")
        # Drawn, not dealt out, so that every process of a distributed run has it.
        return BatchLoader(_SingleGraph(self.graph), BatchSampler(1, 1, num_batches=1))


class _SingleGraph:
    """A data set of one item. `to` moves a graph in place, so it crosses to the device once."""

    def __init__(self, graph: Data) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Tensor) -> Data:
        return self.graph


class Planetoid(FullGraph):
    """Cora, CiteSeer or PubMed: citation graphs with 20 training labels a class.

    `split` is 'public' (Yang et al. 2016, https://arxiv.org/abs/1603.08861) or 'full' (all nodes
    but those for validation and testing are for training). With `sparse` the features are
    `SparseFeatures`: a dense tensor to the network, whose zeros cost nothing. The raw files are
    `root`/planetoid/<name>/raw/ind.*; PyG fetches them where they are missing.

    Raises:
        MissingDataError: a file is not there and cannot be fetched.
    """

    def __init__(
        self,
        name: str = "Cora",
        *,
        split: str = "public",
        normalize_features: bool = True,
        sparse: bool = True,
        root: str | None = None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.encodings = encodings
        root = None if root is None else os.fspath(root)
        self.sparse = sparse
        self.dataset = one_of("name", name, ["Cora", "CiteSeer", "PubMed"])
        self.split = one_of("split", split, ["public", "full"])
        self.normalize_features, self.root = normalize_features, root
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        self.setup()

    def read(self) -> Data:
        """Return the citation graph."""
        parts = ["x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"]
        files = [f"ind.{self.dataset.lower()}.{part}" for part in parts]
        root = collection_root(data_root(self.root), "planetoid", self.dataset)
        data = load_pyg(
            datasets.Planetoid, root, self.dataset, files, name=self.dataset, split=self.split
        )[0]
        data = NormalizeFeatures()(data) if self.normalize_features else data
        if self.sparse:
            data.x = SparseFeatures(data.x)
        return data


class HeterophilousGraph(FullGraph):
    """Roman-empire, Amazon-ratings, Minesweeper, Tolokers or Questions, one of ten fixed splits.

    Platonov et al. 2023, https://arxiv.org/abs/2302.11640; edges go both ways. The raw file is
    `root`/heterophilous/<name in snake case>/raw/*.npz; PyG fetches it where it is missing.

    Raises:
        MissingDataError: the file is not there and cannot be fetched.
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
        root = None if root is None else os.fspath(root)
        names = ["Roman-empire", "Amazon-ratings", "Minesweeper", "Tolokers", "Questions"]
        self.dataset = one_of("name", name, names)
        if not 0 <= split <= 9:
            raise ValueError(f"split is {split}: expected one of the ten fixed splits, 0 to 9.")
        self.split, self.normalize_features, self.root = split, normalize_features, root
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        self.setup()

    def read(self) -> Data:
        """Return the graph with the masks of the chosen split."""
        folder = self.dataset.lower().replace("-", "_")
        root = collection_root(data_root(self.root), "heterophilous", folder)
        data = load_pyg(
            datasets.HeterophilousGraphDataset, root, folder, [f"{folder}.npz"], name=self.dataset
        )[0]
        for mask in ("train_mask", "val_mask", "test_mask"):
            data[mask] = data[mask][:, self.split].contiguous()
        return NormalizeFeatures()(data) if self.normalize_features else data


class DigitsGraph(FullGraph):
    """scikit-learn's handwritten digits as nodes; each hears from the digits that look like it.

    Edges lead to every digit from its `neighbors` nearest ones (and back, if `undirected`), found
    on the clean images. x [1797, 64] are the pixels from 0 to 1, with Gaussian noise of deviation
    `noise` added: the noisier, the more the edges are worth. `labels_per_class` digits of each
    class are for training, `val_size` for validation and the rest for testing, drawn by `seed`.
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
        if noise < 0:
            raise ValueError(f"noise is {noise}: expected a standard deviation of 0 or more.")
        self.neighbors, self.labels_per_class, self.noise = neighbors, labels_per_class, noise
        self.undirected, self.val_size, self.seed = undirected, val_size, seed
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the graph of digits."""
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
    """Return edge_index [2, N * k]: to each of the points x [N, F] from its k nearest others."""
    from sklearn.neighbors import NearestNeighbors  # slow to import, and few need it

    if not 1 <= k < len(x):
        raise ValueError(f"neighbors is {k}: expected 1 to {len(x) - 1} for {len(x)} nodes.")
    # Asked without points, scikit-learn leaves each point out of its own neighbours.
    found = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False)
    source = torch.from_numpy(found).flatten().long()
    return torch.stack([source, torch.arange(len(x)).repeat_interleave(k)])


def _draw_masks(
    y: Tensor, labels_per_class: int, val_size: int, generator: np.random.Generator
) -> dict[str, Tensor]:
    order = torch.from_numpy(generator.permutation(len(y)))
    classes = [order[y[order] == c] for c in range(int(y.max()) + 1)]
    smallest = min(len(c) for c in classes)
    if not 1 <= labels_per_class < smallest:
        raise ValueError(
            f"labels_per_class is {labels_per_class}: expected 1 to {smallest - 1}, as the "
            f"smallest class has {smallest} nodes."
        )
    train = torch.cat([c[:labels_per_class] for c in classes])
    rest = order[~torch.isin(order, train)]
    if not 0 < val_size < len(rest):
        raise ValueError(f"val_size is {val_size}: expected 1 to {len(rest) - 1} nodes.")
    masks = {"train_mask": train, "val_mask": rest[:val_size], "test_mask": rest[val_size:]}
    return {name: _mask(nodes, len(y)) for name, nodes in masks.items()}


def _mask(nodes: Tensor, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask
