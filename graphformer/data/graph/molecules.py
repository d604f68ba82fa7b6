"""Molecules as graphs of atoms: the data sets of MoleculeNet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.utils.smiles import e_map, x_map

from graphformer.data.checks import one_of
from graphformer.data.graph.datasets import GraphBatches
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.io.cache import data_root

_MOLECULE_FILES = {
    "ESOL": "delaney-processed.csv",
    "FreeSolv": "SAMPL.csv",
    "Lipo": "Lipophilicity.csv",
    "BACE": "bace.csv",
    "BBBP": "BBBP.csv",
    "HIV": "HIV.csv",
}
_CLASSIFICATION_MOLECULES = ("BACE", "BBBP", "HIV")


class MoleculeNet(GraphBatches):
    """A data set of MoleculeNet with one target: molecules as graphs of atoms.

    x and edge_attr are the categories of atoms and bonds, one-hot. For ESOL, FreeSolv and Lipo,
    y [B] is the measured quantity in its own unit; for BACE, BBBP and HIV it is one of two classes.
    The raw file is `root`/molecules/<name>/raw/*.csv; PyG downloads it if it is missing.

    Args:
        name: ESOL, FreeSolv, Lipo, BACE, BBBP or HIV.
        batch_size, fold, num_folds, validation, root, seed, encodings, balanced: as in
            `GraphBatches`.

    Raises:
        MissingDataError: when the file is missing and cannot be downloaded.
        ModuleNotFoundError: without rdkit, which parses the molecules.

    Source: Wu et al., 2018, https://arxiv.org/abs/1703.00564.
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
        balanced: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            fold=fold,
            num_folds=num_folds,
            validation=validation,
            root=root,
            seed=seed,
            encodings=encodings,
            balanced=balanced,
        )
        self.dataset = one_of("name", name, list(_MOLECULE_FILES))
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the molecules with one-hot features and their target as y [1]."""
        if find_spec("rdkit") is None:
            raise ModuleNotFoundError(
                "MoleculeNet needs rdkit to parse molecules: pip install 'graphformer[chem]'"
            )
        folder = self.dataset.lower()
        root: Path = collection_root(data_root(self.root), "molecules", folder)
        files = [_MOLECULE_FILES[self.dataset]]
        molecules = load_pyg(datasets.MoleculeNet, root, folder, files, name=self.dataset)
        dtype = torch.long if self.dataset in _CLASSIFICATION_MOLECULES else torch.float
        return [_one_hot_molecule(molecule, dtype) for molecule in molecules]


def _one_hot_molecule(molecule: Data, dtype: torch.dtype) -> Data:
    return Data(
        x=_one_hot(molecule.x, [len(categories) for categories in x_map.values()]),
        edge_index=molecule.edge_index,
        edge_attr=_one_hot(molecule.edge_attr, [len(categories) for categories in e_map.values()]),
        y=molecule.y.flatten().to(dtype),
    )


def _one_hot(columns: Tensor, sizes: list[int]) -> Tensor:
    """Return [N, sum(sizes)] from category indices [N, len(sizes)]."""
    encoded = [one_hot(columns[:, i].long(), size) for i, size in enumerate(sizes)]
    return torch.cat(encoded, dim=1).float()
