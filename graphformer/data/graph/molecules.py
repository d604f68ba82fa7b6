"""Molecules as graphs of atoms: the data sets of MoleculeNet, and tables of SMILES."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch_geometric import datasets
from torch_geometric.data import Data
from torch_geometric.utils.smiles import e_map, x_map
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.checks import one_of
from graphformer.data.graph.datasets import GraphBatches, GraphBatchesOptions
from graphformer.data.graph.own.tables import Columns, column, numbers, read_columns
from graphformer.data.graph.pyg_cache import collection_root, load_pyg
from graphformer.data.io.cache import data_root
from graphformer.data.label_sets import label_numbers, sort_labels
from graphformer.options import checked_options

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
        batch_size, options: as in `GraphBatches`.

    Raises:
        MissingDataError: when the file is missing and cannot be downloaded.
        ModuleNotFoundError: without rdkit, which parses the molecules.

    Source: Wu et al., 2018, https://arxiv.org/abs/1703.00564.
    """

    @checked_options
    def __init__(
        self,
        name: str = "ESOL",
        batch_size: int = 32,
        **options: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.dataset = one_of("name", name, list(_MOLECULE_FILES))
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the molecules with one-hot features and their target as y [1]."""
        _require_rdkit("MoleculeNet")
        folder = self.dataset.lower()
        root: Path = collection_root(data_root(self.root), "molecules", folder)
        files = [_MOLECULE_FILES[self.dataset]]
        molecules = load_pyg(datasets.MoleculeNet, root, folder, files, name=self.dataset)
        dtype = torch.long if self.dataset in _CLASSIFICATION_MOLECULES else torch.float
        return [_one_hot_molecule(molecule, dtype) for molecule in molecules]


class SmilesTable(GraphBatches):
    """Molecules of a table (.csv, .tsv, .jsonl, .parquet) with their SMILES and labels.

    x and edge_attr are the categories of atoms and bonds, one-hot, as in `MoleculeNet`.

    Args:
        path: the table, as it is or under the data root.
        smiles: column of the SMILES.
        label: column of the class, or of the value with `regression`.
        targets: columns instead of `label`, y [B, T]: values with `regression`, else labels 0 and 1
            for the task MultiLabelClassification; an empty cell is a label that is not known.
        regression: whether labels are real values.
        encoding: of the file, such as "latin-1".
        skip_invalid: leave out rows whose SMILES rdkit cannot read, and warn.
        batch_size, options: as in `GraphBatches`.

    Attributes:
        class_names: name of each class; part of checkpoints.

    Raises:
        MissingDataError: when the file is missing.
        ValueError: when a column is missing, a cell is no number, or a SMILES cannot be read.
        ModuleNotFoundError: without rdkit.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        batch_size: int = 32,
        *,
        smiles: str = "smiles",
        label: str = "label",
        targets: list[str] | None = None,
        regression: bool = False,
        encoding: str = "utf-8",
        skip_invalid: bool = False,
        **options: Unpack[GraphBatchesOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.path, self.smiles, self.label, self.targets = path, smiles, label, targets
        self.regression, self.skip_invalid, self.encoding = regression, skip_invalid, encoding
        self.class_names: list[str] = []
        self.save_hyperparameters(logger=False)

    def read(self) -> list[Data]:
        """Return the molecules with their labels."""
        table = read_columns(self.path, self.root, self.encoding)
        texts = [str(text or "") for text in column(table, self.smiles, self.path)]
        y = self._labels(table)
        graphs, invalid = [], []
        for row, text in enumerate(texts):
            molecule = self._molecule(text)
            if molecule is None:
                invalid.append(row)
            else:
                molecule.y = y[row : row + 1]
                graphs.append(molecule)
        if invalid:
            self._report_invalid(invalid, texts)
        if not graphs:
            raise ValueError(f"{self.path}: got no molecule that can be read, expected some")
        return graphs

    def pack(self, inputs: Sequence[Any]) -> Data:
        """Return molecules, SMILES or graphs, as one batch.

        Raises:
            ValueError: when a SMILES cannot be read.
        """
        graphs = [self._molecule(each) if isinstance(each, str) else each for each in inputs]
        for text, graph in zip(inputs, graphs, strict=True):
            if graph is None:
                raise ValueError(f"inputs: got the SMILES {text!r}, which rdkit cannot read")
        return super().pack(graphs)

    def state_dict(self) -> dict[str, Any]:
        """Return the class names, for a checkpoint."""
        state = super().state_dict()
        return {**state, "class_names": list(self.class_names)} if self.class_names else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the class names of a checkpoint."""
        super().load_state_dict(state_dict)
        self.class_names = list(state_dict.get("class_names", self.class_names))

    def _molecule(self, text: str) -> Data | None:
        """Return the graph of a SMILES without label; None if it cannot be read or has no atom."""
        _require_rdkit("SmilesTable")
        from rdkit.Chem import MolFromSmiles
        from rdkit.rdBase import BlockLogs
        from torch_geometric.utils import from_smiles

        with BlockLogs():  # the error of this class says what rdkit would log
            known = MolFromSmiles(text)
        if known is None or known.GetNumAtoms() == 0:
            return None
        return _one_hot_atoms(from_smiles(text))

    def _labels(self, table: Columns) -> Tensor:
        """Return labels [n] or [n, T] of all rows."""
        if self.targets is not None:
            self.class_names = [] if self.regression else list(self.targets)
            columns = [self._numbers(table, name) for name in self.targets]
            y = torch.stack(columns, dim=1)
            return y if self.regression else y.nan_to_num(IGNORE_INDEX).long()
        if self.regression:
            return self._numbers(table, self.label)
        texts = [str(value) for value in column(table, self.label, self.path)]
        if "" in texts or "None" in texts:
            raise ValueError(f"{self.path}: got no class in a row, expected one; fill it in")
        self.class_names = self.class_names or sort_labels(set(texts))
        return label_numbers(texts, self.class_names, None, self.path)

    def _numbers(self, table: Columns, name: str) -> Tensor:
        cells = column(table, name, self.path)
        if self.targets is not None and not self.regression:
            cells = ["nan" if cell in ("", None) else cell for cell in cells]
        return numbers(cells, name, self.path)

    def _report_invalid(self, rows: list[int], texts: list[str]) -> None:
        """Warn of rows that are left out.

        Raises:
            ValueError: without `skip_invalid`.
        """
        first = f"{self.path}: got the SMILES {texts[rows[0]]!r} in row {rows[0] + 1}"
        if not self.skip_invalid:
            raise ValueError(
                f"{first}, which rdkit cannot read, expected a molecule; correct it, or set "
                "skip_invalid to leave such rows out"
            )
        warnings.warn(f"{first}; left out {len(rows)} rows of this kind", stacklevel=2)


def _require_rdkit(name: str) -> None:
    if find_spec("rdkit") is None:
        raise ModuleNotFoundError(
            f"{name} needs rdkit to parse molecules: pip install 'graphformer[chem]'"
        )


def _one_hot_molecule(molecule: Data, dtype: torch.dtype) -> Data:
    graph = _one_hot_atoms(molecule)
    graph.y = molecule.y.flatten().to(dtype)
    return graph


def _one_hot_atoms(molecule: Data) -> Data:
    return Data(
        x=_one_hot(molecule.x, [len(categories) for categories in x_map.values()]),
        edge_index=molecule.edge_index,
        edge_attr=_one_hot(molecule.edge_attr, [len(categories) for categories in e_map.values()]),
    )


def _one_hot(columns: Tensor, sizes: list[int]) -> Tensor:
    """Return [N, sum(sizes)] from category indices [N, len(sizes)]."""
    encoded = [one_hot(columns[:, i].long(), size) for i, size in enumerate(sizes)]
    return torch.cat(encoded, dim=1).float()
