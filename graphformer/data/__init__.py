"""Data sets as LightningDataModules: raw files in, packed batches without padding out."""

from graphformer.data.batches import BatchLoader
from graphformer.data.files import MissingDataError
from graphformer.data.graphs import MoleculeNet, TUDataset
from graphformer.data.images import Digits, IdxImages
from graphformer.data.nodes import DigitsGraph, HeterophilousGraph, Planetoid
from graphformer.data.text import StandardLibrary, TextFile
from graphformer.data.tokens import Bytes, Characters

__all__ = [
    "BatchLoader",
    "Bytes",
    "Characters",
    "Digits",
    "DigitsGraph",
    "HeterophilousGraph",
    "IdxImages",
    "MissingDataError",
    "MoleculeNet",
    "Planetoid",
    "StandardLibrary",
    "TUDataset",
    "TextFile",
]
