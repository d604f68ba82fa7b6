"""Many small graphs with a label each, in mini-batches: the TU collection and MoleculeNet."""

from __future__ import annotations

import os
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch_geometric import datasets
from torch_geometric.data import Batch, Data
from torch_geometric.utils.smiles import e_map, x_map

from graphformer.data.base import DataModule, run_seed
from graphformer.data.checks import check_finite, one_of
from graphformer.data.graph.encodings import add_encodings
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.io.cache import data_root
from graphformer.data.loader import BatchLoader, BatchSampler

Scale = Literal["standard", "quantile"]
_MOLECULE_FILES = {
    "ESOL": "delaney-processed.csv",
    "FreeSolv": "SAMPL.csv",
    "Lipo": "Lipophilicity.csv",
    "BACE": "bace.csv",
    "BBBP": "BBBP.csv",
    "HIV": "HIV.csv",
}
_MOLECULE_CLASSES = ("BACE", "BBBP", "HIV")


class GraphDataset:
    """Graphs of which a batch is the disjoint union, as PyG's Batch."""

    def __init__(self, graphs: list[Data]) -> None:
        self.graphs = graphs

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch.from_data_list([self.graphs[i] for i in index.tolist()])


class GraphBatches(DataModule):
    """Mini-batches of graphs, split into `num_folds` folds by `seed`.

    Fold number `fold` is for testing, the next one for validation and the others for training;
    without `validation` the next one is for training too, and a run needs
    `--trainer.limit_val_batches 0`. With classes, every fold has its share of each. A `seed` of
    None takes the run's own, so that runs with several seeds differ in their folds. A batch is a
    PyG Batch: x [N, F], edge_index, edge_attr where there is one, `ptr`, and y [B], and what the
    `encodings` add, named as in `graphformer.data.graph.encodings`. `num_features`,
    `num_edge_features` and `num_classes` (0 for regression) are there after `setup`.

    Raises:
        ValueError: a feature or a target is NaN or infinite, or there are fewer graphs than folds.
    """

    fold_setting = "fold"
    num_features: int
    num_edge_features: int
    num_classes: int

    def __init__(
        self,
        *,
        batch_size: int,
        fold: int,
        num_folds: int,
        validation: bool,
        root: str | None,
        seed: int | None,
        encodings: list[str] | None = None,
    ) -> None:
        super().__init__()
        if num_folds < 3 or not 0 <= fold < num_folds:
            raise ValueError(
                f"fold is {fold} of num_folds {num_folds}: expected 3 folds or more, and a fold "
                "counted from 0."
            )
        self.batch_size, self.fold, self.num_folds = batch_size, fold, num_folds
        self.validation = validation
        self.root, self.seed = root, run_seed() if seed is None else seed
        self.encodings = encodings
        self._splits: dict[str, GraphDataset] = {}

    @abstractmethod
    def read(self) -> list[Data]:
        """Return all graphs."""

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs and deal them out."""
        if self._splits:
            return
        graphs = self.read()
        if len(graphs) < self.num_folds:
            raise ValueError(
                f"num_folds is {self.num_folds}, but {type(self).__name__} has {len(graphs)} "
                "graphs: take fewer folds."
            )
        for number, graph in enumerate(graphs):
            check_finite(f"{type(self).__name__}, graph {number}", graph)
        graphs = add_encodings(graphs, self.encodings)
        y = torch.cat([graph.y for graph in graphs])
        self.num_features = graphs[0].num_node_features
        self.num_edge_features = graphs[0].num_edge_features
        self.num_classes = 0 if y.is_floating_point() else int(y.max()) + 1
        folds = assign_folds(y, self.num_folds, self.seed)
        splits = {self.fold: "test"}
        if self.validation:
            splits[(self.fold + 1) % self.num_folds] = "val"
        of = [splits.get(fold, "train") for fold in folds.tolist()]
        for split in ("train", "val", "test"):
            self._splits[split] = GraphDataset(
                [g for g, p in zip(graphs, of, strict=True) if p == split]
            )

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split; ValueError for a validation split that is not wanted."""
        if split == "val" and not self.validation:
            raise ValueError(
                "validation is False, so no graphs are left to validate on: pass "
                "--trainer.limit_val_batches 0, and no callback that monitors validation."
            )
        graphs, shuffle = self._splits[split], split == "train"
        order = BatchSampler(len(graphs), self.batch_size, shuffle=shuffle, seed=self.seed)
        return BatchLoader(graphs, order)


class TUDataset(GraphBatches):
    """A set of the TU Dortmund collection (MUTAG, ENZYMES, PROTEINS, ...).

    Morris et al. 2020, https://arxiv.org/abs/2007.08663. Sets with attributes of graphs (alchemy,
    ZINC) are for regression, the others for classification. `node_attributes` and
    `edge_attributes` add the continuous attributes to the kinds, where there are some; where nodes
    have no features at all, x is one 1 a node.
    `scale` changes the continuous attributes, by what the training split has: "standard" gives them
    mean 0 and deviation 1, "quantile" a normal distribution, which outliers do not spoil. The raw
    files are `root`/tu/<name>/raw/*.txt; PyG fetches them where they are missing.

    Raises:
        MissingDataError: a file is not there and cannot be fetched.
        ValueError: graphs have neither labels nor attributes.
    """

    def __init__(
        self,
        name: str = "MUTAG",
        batch_size: int = 32,
        *,
        fold: int = 0,
        num_folds: int = 10,
        validation: bool = True,
        node_attributes: bool = True,
        edge_attributes: bool = True,
        scale: Scale | None = None,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
    ) -> None:
        root = None if root is None else os.fspath(root)
        super().__init__(
            batch_size=batch_size,
            fold=fold,
            num_folds=num_folds,
            validation=validation,
            root=root,
            seed=seed,
            encodings=encodings,
        )
        self.save_hyperparameters(logger=False)
        if scale not in (None, *get_args(Scale)):
            raise ValueError(f"scale is {scale!r}: expected None, {' or '.join(get_args(Scale))}.")
        self.dataset, self.node_attributes, self.scale = name, node_attributes, scale
        self.edge_attributes = edge_attributes
        self.num_attributes = self.num_edge_attributes = 0

    def setup(self, stage: str | None = None) -> None:
        """Read the graphs, deal them out and scale their attributes."""
        if self._splits:
            return
        super().setup(stage)
        if self.scale is not None and self.num_attributes:
            scale_columns(
                [split.graphs for split in self._splits.values()], self.num_attributes, self.scale
            )

    def read(self) -> list[Data]:
        """Return the collection's graphs."""
        root = collection_root(data_root(self.root), "tu", self.dataset)
        found = load_pyg(
            datasets.TUDataset,
            root,
            self.dataset,
            [f"{self.dataset}_{ending}.txt" for ending in ("A", "graph_indicator")],
            name=self.dataset,
            use_node_attr=self.node_attributes,
            use_edge_attr=self.edge_attributes,
        )
        _append_edgeless_graphs(found)
        graphs = list(found)
        self.num_attributes = found.num_node_attributes if self.node_attributes else 0
        self.num_edge_attributes = found.num_edge_attributes if self.edge_attributes else 0
        for graph in graphs:
            if graph.y is None:
                raise ValueError(
                    f"{self.dataset} has neither labels nor attributes of graphs: its raw folder "
                    f"needs {self.dataset}_graph_labels.txt or {self.dataset}_graph_attributes.txt."
                )
            if not graph.num_node_features:
                graph.x = torch.ones(graph.num_nodes, 1)
        return graphs


class MoleculeNet(GraphBatches):
    """A set of MoleculeNet with one target: molecules as graphs of atoms.

    Wu et al. 2018, https://arxiv.org/abs/1703.00564. x and edge_attr are the atoms' and bonds'
    kinds, one-hot. For ESOL, FreeSolv and Lipo y [B] is the measured quantity in its own unit; for
    BACE, BBBP and HIV it is one of two classes. The raw file is
    `root`/molecules/<name>/raw/*.csv; PyG fetches it where it is missing.

    Raises:
        MissingDataError: the file is not there and cannot be fetched.
        ModuleNotFoundError: rdkit, which reads the molecules, is not installed.
    """

    def __init__(
        self,
        name: str = "ESOL",
        batch_size: int = 32,
        *,
        fold: int = 0,
        num_folds: int = 10,
        validation: bool = True,
        root: str | None = None,
        seed: int | None = 0,
        encodings: list[str] | None = None,
    ) -> None:
        root = None if root is None else os.fspath(root)
        super().__init__(
            batch_size=batch_size,
            fold=fold,
            num_folds=num_folds,
            validation=validation,
            root=root,
            seed=seed,
            encodings=encodings,
        )
        self.dataset = one_of("name", name, list(_MOLECULE_FILES))
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the molecules."""
        if find_spec("rdkit") is None:
            raise ModuleNotFoundError(
                "MoleculeNet needs rdkit to read molecules: pip install 'graphformer[chem]'."
            )
        folder = self.dataset.lower()
        root: Path = collection_root(data_root(self.root), "molecules", folder)
        files = [_MOLECULE_FILES[self.dataset]]
        found = load_pyg(datasets.MoleculeNet, root, folder, files, name=self.dataset)
        dtype = torch.long if self.dataset in _MOLECULE_CLASSES else torch.float
        return [_one_hot_molecule(molecule, dtype) for molecule in found]


def scale_columns(splits: list[list[Data]], count: int, scale: Scale) -> None:
    """Scale the first `count` columns of x [N, F] in all splits, as the first split has them."""
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    values = torch.cat([graph.x[:, :count] for graph in splits[0]]).numpy()
    scaler = StandardScaler()
    if scale == "quantile":
        kept = min(1000, len(values))
        scaler = QuantileTransformer(n_quantiles=kept, output_distribution="normal", random_state=0)
    scaler.fit(values)
    for graph in (graph for split in splits for graph in split if graph.num_nodes):
        scaled = torch.from_numpy(scaler.transform(graph.x[:, :count].numpy()))
        graph.x = torch.cat([scaled.to(graph.x.dtype), graph.x[:, count:]], dim=1)


def assign_folds(y: Tensor, num_folds: int, seed: int) -> Tensor:
    """Return the fold [B] of each sample: shuffled, and dealt out class by class for integer y."""
    order = np.random.default_rng(seed).permutation(len(y))
    if not y.is_floating_point():
        order = order[np.argsort(y.numpy()[order], kind="stable")]
    folds = torch.empty(len(y), dtype=torch.long)
    folds[torch.from_numpy(order)] = torch.arange(len(y)) % num_folds
    return folds


def _append_edgeless_graphs(found: datasets.TUDataset) -> None:
    """Add the graphs without edges at the end, which PyG (2.8) loses as it counts by edges."""
    slices = found.slices
    for name in ("edge_index", "edge_attr"):
        if name in slices and "y" in slices:
            lacking = len(slices["y"]) - len(slices[name])
            slices[name] = torch.cat([slices[name], slices[name][-1:].expand(lacking)])


def _one_hot_molecule(molecule: Data, dtype: torch.dtype) -> Data:
    return Data(
        x=_one_hot(molecule.x, [len(kinds) for kinds in x_map.values()]),
        edge_index=molecule.edge_index,
        edge_attr=_one_hot(molecule.edge_attr, [len(kinds) for kinds in e_map.values()]),
        y=molecule.y.flatten().to(dtype),
    )


def _one_hot(columns: Tensor, sizes: list[int]) -> Tensor:
    """Return [N, sum(sizes)] from category numbers [N, len(sizes)]."""
    parts = [one_hot(columns[:, i].long(), size) for i, size in enumerate(sizes)]
    return torch.cat(parts, dim=1).float()


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
        self.num_classes = self.num_edge_types

    def read(self) -> list[Data]:
        """Return the collection's graphs."""
        graphs = super().read()
        self.num_edge_types = graphs[0].num_edge_features - self.num_edge_attributes
        if not self.num_edge_types:
            raise ValueError(
                f"{self.dataset} has no kinds of edges to tell: take a set with a file "
                "*_edge_labels.txt, such as MUTAG."
            )
        for graph in graphs:
            graph.edge_label_index = graph.edge_index
            graph.edge_label = graph.edge_attr[:, self.num_edge_attributes :].argmax(1)
            del graph.edge_attr
        return graphs
