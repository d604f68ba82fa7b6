"""Data sets as LightningDataModules: raw files in, packed batches without padding out.

Names are imported on first use: packing a batch does not import Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphformer.deprecated import renamed_exports

if TYPE_CHECKING:
    from graphformer.data.audio.folder import AudioFolder
    from graphformer.data.audio.tones import Tones
    from graphformer.data.batch import Batch, BatchLike, pack_images, pack_tokens, pack_videos
    from graphformer.data.graph.datasets import GraphBatches, TUDataset, TUEdges
    from graphformer.data.graph.link_splits import PlanetoidLinks
    from graphformer.data.graph.molecules import MoleculeNet, SmilesTable
    from graphformer.data.graph.neighbor_loader import NeighborNodes
    from graphformer.data.graph.node_datasets import (
        DigitsGraph,
        FullGraph,
        HeterophilousGraph,
        Planetoid,
    )
    from graphformer.data.graph.out_of_core.arrays import convert_arrays, convert_ogb
    from graphformer.data.graph.out_of_core.folder import GraphFolder
    from graphformer.data.graph.out_of_core.nodes import StoredNodes
    from graphformer.data.graph.out_of_core.reorder import reorder_graph
    from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph
    from graphformer.data.graph.out_of_core.tables import convert_tables
    from graphformer.data.graph.out_of_core.writer import RandomSplit, write_graph
    from graphformer.data.graph.own.events import EventLinks
    from graphformer.data.graph.own.links import LinkFile, LinkTables
    from graphformer.data.graph.own.nodes import NodeFile, NodeTables
    from graphformer.data.graph.own.ogb_sets import OGBGraphs, OGBLinks, OGBNodes
    from graphformer.data.graph.own.pyg_sets import PyGGraphs, PyGNodes
    from graphformer.data.graph.own.sets import GraphFile
    from graphformer.data.graph.sparse_features import SparseFeatures
    from graphformer.data.graph.synthetic import RingTransfer
    from graphformer.data.io.cache import MissingDataError
    from graphformer.data.loader import BatchLoader
    from graphformer.data.multimodal.image_codes import append_codes
    from graphformer.data.multimodal.image_text import attach_images, prepend_images
    from graphformer.data.multimodal.latents import pack_latents
    from graphformer.data.multimodal.scene_questions import SceneQuestions
    from graphformer.data.ragged import Ragged, RaggedPairs
    from graphformer.data.segments import place
    from graphformer.data.text.classification import LabelledText
    from graphformer.data.text.conllu import DependencyTrees
    from graphformer.data.text.knowledge.descriptions import EntityDescriptions
    from graphformer.data.text.knowledge.word_graphs import WordKnowledgeGraphs
    from graphformer.data.text.language_modeling import TextFile
    from graphformer.data.text.listops import ListOps
    from graphformer.data.text.multilingual.documents import MultilingualText
    from graphformer.data.text.ngrams.labelled_text import NgramText
    from graphformer.data.text.post_training.chat import ChatFile
    from graphformer.data.text.post_training.preferences import PreferenceFile
    from graphformer.data.text.post_training.prompts import PromptFile
    from graphformer.data.text.post_training.walks import RandomWalks
    from graphformer.data.text.prompted.cloze import ClozeText
    from graphformer.data.text.prompted.task_mixture import TaskMixture
    from graphformer.data.text.records import TextRecords
    from graphformer.data.text.seq2seq import SymbolPairs, TextPairs
    from graphformer.data.text.stdlib import StandardLibrary
    from graphformer.data.text.symbols.repeated import RepeatedSymbols
    from graphformer.data.text.tagging import TaggedText
    from graphformer.data.text.tokenizer import Bytes, Characters, Tokenizer
    from graphformer.data.text.tokenizer_training import load_tokenizer, train_tokenizer
    from graphformer.data.token_budget import TokenBudgetSampler
    from graphformer.data.video.moving import MovingObjects, MovingObjectsCaptions
    from graphformer.data.vision.captions import CaptionFile
    from graphformer.data.vision.datasets import Digits, IdxImages, ImageArrays
    from graphformer.data.vision.folder import ImageFolder
    from graphformer.data.vision.scenes import Scenes
    from graphformer.data.vision.table import ImageTable

_EXPORTS = {
    "audio.folder": ("AudioFolder",),
    "audio.tones": ("Tones",),
    "batch": ("Batch", "BatchLike", "pack_images", "pack_tokens", "pack_videos"),
    "graph.datasets": ("GraphBatches", "TUDataset", "TUEdges"),
    "graph.link_splits": ("PlanetoidLinks",),
    "graph.molecules": ("MoleculeNet", "SmilesTable"),
    "graph.neighbor_loader": ("NeighborNodes",),
    "graph.node_datasets": ("DigitsGraph", "FullGraph", "HeterophilousGraph", "Planetoid"),
    "graph.out_of_core.arrays": ("convert_arrays", "convert_ogb"),
    "graph.out_of_core.folder": ("GraphFolder",),
    "graph.out_of_core.nodes": ("StoredNodes",),
    "graph.out_of_core.reorder": ("reorder_graph",),
    "graph.out_of_core.stores": ("MemoryMappedGraph",),
    "graph.out_of_core.tables": ("convert_tables",),
    "graph.out_of_core.writer": ("RandomSplit", "write_graph"),
    "graph.own.events": ("EventLinks",),
    "graph.own.nodes": ("NodeFile", "NodeTables"),
    "graph.own.ogb_sets": ("OGBGraphs", "OGBLinks", "OGBNodes"),
    "graph.own.pyg_sets": ("PyGGraphs", "PyGNodes"),
    "graph.own.links": ("LinkFile", "LinkTables"),
    "graph.own.sets": ("GraphFile",),
    "graph.sparse_features": ("SparseFeatures",),
    "graph.synthetic": ("RingTransfer",),
    "io.cache": ("MissingDataError",),
    "loader": ("BatchLoader",),
    "multimodal.image_codes": ("append_codes",),
    "multimodal.image_text": ("attach_images", "prepend_images"),
    "multimodal.latents": ("pack_latents",),
    "multimodal.scene_questions": ("SceneQuestions",),
    "ragged": ("Ragged", "RaggedPairs"),
    "segments": ("place",),
    "text.classification": ("LabelledText",),
    "text.prompted.cloze": ("ClozeText",),
    "text.conllu": ("DependencyTrees",),
    "text.knowledge.descriptions": ("EntityDescriptions",),
    "text.knowledge.word_graphs": ("WordKnowledgeGraphs",),
    "text.language_modeling": ("TextFile",),
    "text.listops": ("ListOps",),
    "text.ngrams.labelled_text": ("NgramText",),
    "text.multilingual.documents": ("MultilingualText",),
    "text.post_training.chat": ("ChatFile",),
    "text.post_training.preferences": ("PreferenceFile",),
    "text.post_training.prompts": ("PromptFile",),
    "text.post_training.walks": ("RandomWalks",),
    "text.records": ("TextRecords",),
    "text.seq2seq": ("SymbolPairs", "TextPairs"),
    "text.stdlib": ("StandardLibrary",),
    "text.symbols.repeated": ("RepeatedSymbols",),
    "text.tagging": ("TaggedText",),
    "text.prompted.task_mixture": ("TaskMixture",),
    "text.tokenizer": ("Bytes", "Characters", "Tokenizer"),
    "text.tokenizer_training": ("load_tokenizer", "train_tokenizer"),
    "token_budget": ("TokenBudgetSampler",),
    "video.moving": ("MovingObjects", "MovingObjectsCaptions"),
    "vision.captions": ("CaptionFile",),
    "vision.datasets": ("Digits", "IdxImages", "ImageArrays"),
    "vision.folder": ("ImageFolder",),
    "vision.scenes": ("Scenes",),
    "vision.table": ("ImageTable",),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = [
    "AudioFolder",
    "Batch",
    "BatchLike",
    "BatchLoader",
    "Bytes",
    "CaptionFile",
    "Characters",
    "ChatFile",
    "ClozeText",
    "DependencyTrees",
    "Digits",
    "DigitsGraph",
    "EntityDescriptions",
    "EventLinks",
    "FullGraph",
    "GraphBatches",
    "GraphFile",
    "HeterophilousGraph",
    "IdxImages",
    "ImageArrays",
    "ImageFolder",
    "ImageTable",
    "LabelledText",
    "LinkFile",
    "LinkTables",
    "ListOps",
    "MemoryMappedGraph",
    "MissingDataError",
    "MoleculeNet",
    "MovingObjects",
    "MovingObjectsCaptions",
    "MultilingualText",
    "NeighborNodes",
    "NgramText",
    "NodeFile",
    "NodeTables",
    "OGBGraphs",
    "OGBLinks",
    "OGBNodes",
    "Planetoid",
    "PlanetoidLinks",
    "PreferenceFile",
    "PromptFile",
    "PyGGraphs",
    "PyGNodes",
    "Ragged",
    "RaggedPairs",
    "RandomSplit",
    "RandomWalks",
    "RepeatedSymbols",
    "RingTransfer",
    "SceneQuestions",
    "Scenes",
    "SmilesTable",
    "SparseFeatures",
    "StandardLibrary",
    "StoredNodes",
    "SymbolPairs",
    "TUDataset",
    "TUEdges",
    "TaggedText",
    "TaskMixture",
    "TextFile",
    "TextPairs",
    "TextRecords",
    "TokenBudgetSampler",
    "Tokenizer",
    "Tones",
    "WordKnowledgeGraphs",
    "append_codes",
    "attach_images",
    "convert_arrays",
    "convert_ogb",
    "convert_tables",
    "load_tokenizer",
    "pack_images",
    "pack_latents",
    "pack_tokens",
    "pack_videos",
    "place",
    "prepend_images",
    "train_tokenizer",
    "write_graph",
    "GraphFolder",
    "reorder_graph",
]
_look_up_old_name = renamed_exports(__name__, {"BudgetOrder": "TokenBudgetSampler"})


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        return _look_up_old_name(name)
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def import_all() -> None:
    """Import all data modules, so that a parser finds them as subclasses by their short names."""
    for name in __all__:
        getattr(import_module(__name__), name)
