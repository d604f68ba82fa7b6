"""Data sets of many graphs with one label each: their base, and the TU collection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypedDict, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Batch, Data
from typing_extensions import Unpack

from graphformer.data.base import DataModule, run_seed
from graphformer.data.checks import check_finite
from graphformer.data.graph.encodings import add_encodings, union_with_encodings
from graphformer.data.graph.labels import count_classes
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.graph.tu_format import check_tu_files
from graphformer.data.io.cache import data_root
from graphformer.data.label_sets import oversampled
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.deprecated import renamed_keywords
from graphformer.options import checked_options

Scale = Literal["standard", "quantile"]


class GraphDataset:
    """A list of graphs; an index tensor selects a batch, their disjoint union as PyG's `Batch`.

    Args:
        graphs: the graphs.
    """

    def __init__(self, graphs: list[Data]) -> None:
        self.graphs = graphs

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch.from_data_list([self.graphs[i] for i in index.tolist()])


class GraphBatchesOptions(TypedDict, total=False):
    """Arguments of `GraphBatches`, which describes them, but for `batch_size`."""

    fold: int
    num_folds: int
    validation: bool
    root: str | None
    seed: int | None
    encodings: list[str] | None
    balanced: bool


class GraphBatches(DataModule):
    """Base of data sets of graphs: batches, and splits by cross-validation folds.

    Fold `fold` is the test split, the next one the validation split, the others the training split.
    Without `validation`, the next one is used for training too, and a run needs
    `--trainer.limit_val_batches 0`. Folds are stratified by class. A batch has x [N, F],
    edge_index, edge_attr if the data has it, `ptr`, y [B], and the fields of the `encodings`.
    `num_features`, `num_edge_features` and `num_classes` (the number of targets if there are
    several, 0 for a single real-valued one) are set by `setup`.

    Args:
        batch_size: graphs in a batch.
        fold: index of the test fold.
        num_folds: number of folds, 3 or more.
        validation: use a fold for validation.
        root: folder of raw data; by default $GRAPHFORMER_DATA or `data`.
        seed: random seed of folds and order; None for the seed of the run.
        encodings: names, see `graphformer.nn.encodings.parse_encodings`.
        balanced: whether training graphs of rarer classes are repeated, until all are as frequent.

    Raises:
        ValueError: when a feature or target is NaN or infinite, labels are no classes from 0, or
            there are fewer graphs than folds.
    """

    fold_setting = "fold"
    num_features: int
    num_edge_features: int
    num_classes: int

    def __init__(
        self,
        *,
        batch_size: int = 32,
        fold: int = 0,
        num_folds: int = 10,
        validation: bool = True,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        if num_folds < 3:
            raise ValueError(f"num_folds: got {num_folds}, expected 3 or more")
        if not 0 <= fold < num_folds:
            raise ValueError(
                f"fold: got {fold}, expected 0 to {num_folds - 1} for num_folds={num_folds}"
            )
        self.batch_size, self.fold, self.num_folds = batch_size, fold, num_folds
        self.validation = validation
        self.root, self.seed = root, run_seed() if seed is None else seed
        self.encodings, self.balanced = encodings, balanced
        self._splits: dict[str, GraphDataset] = {}
        self._positions: dict[str, list[int]] = {}

    @abstractmethod
    def read(self) -> list[Data]:
        """Return all graphs, each with y [1] or [1, T]; or with labels of nodes, [n] or [n, T]."""

    def prepare_data(self) -> None:
        """Download missing files and compute encodings, in one process of a distributed run."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read and check the graphs, add encodings, and assign the folds to splits."""
        if self._splits:
            return
        name, graphs = type(self).__name__, self.read()
        for number, graph in enumerate(graphs):
            check_finite(f"{name}, graph {number}", graph)
        graphs = add_encodings(graphs, self.encodings)
        self.num_features = graphs[0].num_node_features
        self.num_edge_features = graphs[0].num_edge_features
        y = torch.cat([graph.y for graph in graphs])
        self.num_classes = count_classes(name, y)
        splits, position = self.split(graphs), {id(graph): n for n, graph in enumerate(graphs)}
        self._splits = {split: GraphDataset(own) for split, own in splits.items()}
        self._positions = {
            split: [position[id(graph)] for graph in own if id(graph) in position]
            for split, own in splits.items()
        }

    def sample_numbers(self, split: str) -> list[int]:
        """Return the position of a split's graphs in the data set."""
        return self._positions[split]

    def split(self, graphs: list[Data]) -> dict[str, list[Data]]:
        """Return the graphs of "train", "val" and "test", by folds.

        Raises:
            ValueError: when there are fewer graphs than folds.
        """
        if len(graphs) < self.num_folds:
            raise ValueError(
                f"num_folds: got {self.num_folds} for the {len(graphs)} graphs of "
                f"{type(self).__name__}, expected at most one a graph; choose fewer folds"
            )
        y = torch.cat([graph.y for graph in graphs])
        if len(y) != len(graphs):  # labels of nodes: folds that are not stratified
            y = torch.zeros(len(graphs))
        split_of = {self.fold: "test"}
        if self.validation:
            split_of[(self.fold + 1) % self.num_folds] = "val"
        splits: dict[str, list[Data]] = {"train": [], "val": [], "test": []}
        for graph, fold in zip(
            graphs, assign_folds(y, self.num_folds, self.seed).tolist(), strict=True
        ):
            splits[split_of.get(fold, "train")].append(graph)
        return splits

    def pack(self, inputs: Sequence[Data]) -> Data:
        """Return graphs with the encodings of training, as one batch."""
        return union_with_encodings(inputs, self.encodings)

    def train_labels(self) -> Tensor:
        """Return the classes of the training graphs, [B], or their labels, [B, K]."""
        return torch.cat([graph.y for graph in self._splits["train"].graphs])

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled for training.

        Raises:
            ValueError: for the validation split without `validation`.
        """
        if split == "val" and not self.validation:
            raise ValueError(
                "validation: got False, so there are no graphs to validate on; pass "
                "--trainer.limit_val_batches 0, and no callback that monitors validation"
            )
        graphs, shuffle = self._splits[split], split == "train"
        if self.balanced and shuffle:
            chosen = oversampled(torch.cat([graph.y for graph in graphs.graphs]), self.seed)
            graphs = GraphDataset([graphs.graphs[i] for i in chosen.tolist()])
        order = BatchSampler(len(graphs), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(graphs, order)


class TUDataset(GraphBatches):
    """A data set of the TU Dortmund collection (MUTAG, ENZYMES, PROTEINS, ...).

    Data sets with graph attributes (alchemy, ZINC) are for regression, those with graph labels for
    classification. Node and edge labels are one-hot features; without any node feature, x is a 1
    for each node. The raw files are `root`/tu/<name>/raw/*.txt; PyG downloads missing ones.

    Args:
        name: name of the data set.
        batch_size, options: as in `GraphBatches`.
        node_attributes, edge_attributes: add continuous attributes, if the data has them.
        scale: how continuous node attributes are scaled, by the statistics of the training split:
            "standard" to mean 0 and standard deviation 1, "quantile" to a normal distribution,
            which is robust to outliers.

    Raises:
        MissingDataError: when a raw file is missing and cannot be downloaded.
        ValueError: when a raw file is malformed, or graphs have neither labels nor attributes.

    Source: Morris et al., 2020, https://arxiv.org/abs/2007.08663.
    """

    @checked_options
    def __init__(
        self,
        name: str = "MUTAG",
        batch_size: int = 32,
        *,
        node_attributes: bool = True,
        edge_attributes: bool = True,
        scale: Scale | None = None,
        **options: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.save_hyperparameters(logger=False)
        if scale not in (None, *get_args(Scale)):
            raise ValueError(f"scale: got {scale!r}, expected None, {' or '.join(get_args(Scale))}")
        self.dataset, self.node_attributes, self.scale = name, node_attributes, scale
        self.edge_attributes = edge_attributes
        self.num_attributes = self.num_edge_attributes = 0

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs, assign the folds to splits and scale continuous attributes."""
        if self._splits:
            return
        super().setup(stage)
        if self.scale is not None and self.num_attributes:
            splits = [dataset.graphs for dataset in self._splits.values()]
            scale_columns(splits, self.num_attributes, self.scale)

    def pack(self, inputs: Sequence[Data]) -> Data:
        """Return graphs with the encodings of training, as one batch.

        Raises:
            ValueError: with `scale`, whose statistics are not part of a checkpoint.
        """
        if self.scale is not None:
            raise ValueError(
                f"scale: got {self.scale!r}, expected None for new graphs, because checkpoints do "
                "not have its statistics; scale the attributes before training"
            )
        return super().pack(inputs)

    def read(self) -> list[Data]:
        """Return the graphs of the collection, in the order of the raw files."""
        root = collection_root(data_root(self.root), "tu", self.dataset)
        collection = load_pyg(
            datasets.TUDataset,
            root,
            self.dataset,
            [f"{self.dataset}_{ending}.txt" for ending in ("A", "graph_indicator")],
            check=partial(check_tu_files, name=self.dataset),
            name=self.dataset,
            use_node_attr=self.node_attributes,
            use_edge_attr=self.edge_attributes,
        )
        _append_edgeless_graphs(collection)
        graphs = list(collection)
        self.num_attributes = collection.num_node_attributes if self.node_attributes else 0
        self.num_edge_attributes = collection.num_edge_attributes if self.edge_attributes else 0
        for graph in graphs:
            if graph.y is None:
                raise ValueError(
                    f"{self.dataset}: got neither labels nor attributes of graphs, expected "
                    f"{self.dataset}_graph_labels.txt or {self.dataset}_graph_attributes.txt in "
                    "its raw folder"
                )
            if not graph.num_node_features:
                graph.x = torch.ones(graph.num_nodes, 1)
        return graphs


class TUEdges(TUDataset):
    """A TU data set whose edge labels are the classes to predict.

    `edge_label_index` [2, P] holds all edges, both directions, and `edge_label` [P] their types, of
    which there are `num_classes`. The graphs keep their edges without any edge feature. Splits are
    made of whole graphs, so that both directions of an edge are in the same split.

    Raises:
        MissingDataError: when a raw file is missing and cannot be downloaded.
        ValueError: when the data set has no edge labels.
    """

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs and assign them to splits; `num_classes` is that of the edges."""
        super().setup(stage)
        self.num_classes = self.num_edge_types

    def train_labels(self) -> Tensor:
        """Return the classes of the edges of the training graphs, [P]."""
        return torch.cat([graph.edge_label for graph in self._splits["train"].graphs])

    def read(self) -> list[Data]:
        """Return the graphs with edge features replaced by `edge_label`."""
        graphs = super().read()
        self.num_edge_types = graphs[0].num_edge_features - self.num_edge_attributes
        if not self.num_edge_types:
            raise ValueError(
                f"{self.dataset}: got no edge labels, expected a file *_edge_labels.txt; choose a "
                "data set that has one, such as MUTAG"
            )
        for graph in graphs:
            graph.edge_label_index = graph.edge_index
            graph.edge_label = graph.edge_attr[:, self.num_edge_attributes :].argmax(1)
            del graph.edge_attr
        return graphs


def scale_columns(splits: list[list[Data]], count: int, scale: Scale) -> None:
    """Scale the first `count` columns of x [N, F] in place, fitted on the first split only."""
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    values = torch.cat([graph.x[:, :count] for graph in splits[0]]).numpy()
    scaler = StandardScaler()
    if scale == "quantile":
        scaler = QuantileTransformer(
            n_quantiles=min(1000, len(values)), output_distribution="normal", random_state=0
        )
    scaler.fit(values)
    for graph in (graph for graphs in splits for graph in graphs if graph.num_nodes):
        scaled = torch.from_numpy(scaler.transform(graph.x[:, :count].numpy()))
        graph.x = torch.cat([scaled.to(graph.x.dtype), graph.x[:, count:]], dim=1)


def assign_folds(y: Tensor, num_folds: int, seed: int) -> Tensor:
    """Return the fold [B] of each sample: shuffled, and stratified by class for integer y [B].

    Samples sorted by class, in random order within a class, get the folds 0, 1, ... in turn, so
    that the sizes of folds, and of each class in them, differ by at most one.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    if y.ndim == 1 and not y.is_floating_point():
        order = order[np.argsort(y.numpy()[order], kind="stable")]
    folds = torch.empty(len(y), dtype=torch.long)
    folds[torch.from_numpy(order)] = torch.arange(len(y)) % num_folds
    return folds


def _append_edgeless_graphs(collection: datasets.TUDataset) -> None:
    """Add slices for the last graphs if they have no edges: PyG 2.8 counts graphs by edges."""
    slices = collection.slices
    for name in ("edge_index", "edge_attr"):
        if name in slices and "y" in slices:
            missing = len(slices["y"]) - len(slices[name])
            slices[name] = torch.cat([slices[name], slices[name][-1:].expand(missing)])
