"""Objectives: a network and a pattern, with loss, metrics, optimiser and schedule."""

from graphformer.tasks.base import Task
from graphformer.tasks.classification import Classification
from graphformer.tasks.clip import ImageTextContrast
from graphformer.tasks.contrastive import SentenceContrast
from graphformer.tasks.denoising import Denoising
from graphformer.tasks.language import LanguageModeling
from graphformer.tasks.link import EdgeClassification, LinkPrediction
from graphformer.tasks.masked import MaskedLanguageModeling
from graphformer.tasks.reconstruction import MaskedImageModeling
from graphformer.tasks.regression import Regression
from graphformer.tasks.replaced import ReplacedTokenDetection
from graphformer.tasks.seq2seq import SequenceToSequence

__all__ = [
    "Classification",
    "Denoising",
    "EdgeClassification",
    "ImageTextContrast",
    "LanguageModeling",
    "LinkPrediction",
    "MaskedImageModeling",
    "MaskedLanguageModeling",
    "Regression",
    "ReplacedTokenDetection",
    "SentenceContrast",
    "SequenceToSequence",
    "Task",
]
