"""Data sets as LightningDataModules: raw files in, packed batches without padding out."""

from graphformer.data.graph.datasets import MoleculeNet, TUDataset, TUEdges
from graphformer.data.graph.link_splits import PlanetoidLinks
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.node_datasets import DigitsGraph, HeterophilousGraph, Planetoid
from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.data.graph.synthetic import RingTransfer
from graphformer.data.io.cache import MissingDataError
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged, RaggedPairs
from graphformer.data.text.classification import LabelledText
from graphformer.data.text.conllu import DependencyTrees
from graphformer.data.text.language_modeling import TextFile
from graphformer.data.text.listops import ListOps
from graphformer.data.text.records import TextRecords
from graphformer.data.text.seq2seq import SymbolPairs, TextPairs
from graphformer.data.text.stdlib import StandardLibrary
from graphformer.data.text.tagging import TaggedText
from graphformer.data.text.tokenizer import Bytes, Characters, Tokenizer
from graphformer.data.text.tokenizer_training import load_tokenizer, train_tokenizer
from graphformer.data.token_budget import TokenBudgetSampler
from graphformer.data.vision.captions import CaptionFile
from graphformer.data.vision.datasets import Digits, IdxImages, ImageArrays
from graphformer.data.vision.folder import ImageFolder
from graphformer.data.vision.scenes import Scenes
from graphformer.deprecated import renamed_exports

__all__ = [
    "SparseFeatures",
    "RingTransfer",
    "PlanetoidLinks",
    "BatchLoader",
    "TokenBudgetSampler",
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

__getattr__ = renamed_exports(__name__, {"BudgetOrder": "TokenBudgetSampler"})
