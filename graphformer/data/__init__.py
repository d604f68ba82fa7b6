"""Data sets as LightningDataModules: raw files in, packed batches without padding out."""

from graphformer.data.batches import BatchLoader
from graphformer.data.budgets import BudgetOrder
from graphformer.data.captions import CaptionFile
from graphformer.data.conllu import DependencyTrees
from graphformer.data.documents import TextRecords
from graphformer.data.edge_kinds import TUEdges
from graphformer.data.features import SparseFeatures
from graphformer.data.files import MissingDataError
from graphformer.data.folders import ImageFolder
from graphformer.data.graphs import MoleculeNet, TUDataset
from graphformer.data.image_sets import Digits, IdxImages, ImageArrays
from graphformer.data.labelled import LabelledText
from graphformer.data.library import StandardLibrary
from graphformer.data.links import PlanetoidLinks
from graphformer.data.listops import ListOps
from graphformer.data.neighbors import NeighborNodes
from graphformer.data.nodes import DigitsGraph, HeterophilousGraph, Planetoid
from graphformer.data.pairs import SymbolPairs, TextPairs
from graphformer.data.ragged import Ragged, RaggedPairs
from graphformer.data.scenes import Scenes
from graphformer.data.synthetic import RingTransfer
from graphformer.data.tagged import TaggedText
from graphformer.data.text import TextFile
from graphformer.data.tokens import Bytes, Characters, Tokenizer
from graphformer.data.vocabularies import load_tokenizer, train_tokenizer

__all__ = [
    "SparseFeatures",
    "RingTransfer",
    "PlanetoidLinks",
    "BatchLoader",
    "BudgetOrder",
    "Bytes",
    "CaptionFile",
    "Characters",
    "DependencyTrees",
    "Digits",
    "DigitsGraph",
    "HeterophilousGraph",
    "IdxImages",
    "ImageArrays",
    "ImageFolder",
    "LabelledText",
    "ListOps",
    "MissingDataError",
    "MoleculeNet",
    "NeighborNodes",
    "Planetoid",
    "Ragged",
    "RaggedPairs",
    "Scenes",
    "StandardLibrary",
    "SymbolPairs",
    "TUDataset",
    "TUEdges",
    "TaggedText",
    "TextFile",
    "TextPairs",
    "TextRecords",
    "Tokenizer",
    "load_tokenizer",
    "train_tokenizer",
]
