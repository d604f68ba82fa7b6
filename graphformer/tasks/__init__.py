"""Objectives: a network and a pattern, with loss, metrics, optimiser and schedule."""

from graphformer.tasks.base import Task
from graphformer.tasks.classification import Classification
from graphformer.tasks.graph.link import EdgeClassification, LinkPrediction
from graphformer.tasks.multi_label import MultiLabelClassification
from graphformer.tasks.multimodal.latent_diffusion import LatentDiffusion
from graphformer.tasks.multimodal.question_answering import QuestionAnswering
from graphformer.tasks.multimodal.text_to_image import TextToImage
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.post_training.direct_preference import DirectPreference
from graphformer.tasks.post_training.policy_optimization import PolicyOptimization
from graphformer.tasks.post_training.reward_modeling import RewardModeling
from graphformer.tasks.post_training.sft import SupervisedFineTuning
from graphformer.tasks.regression import Regression
from graphformer.tasks.text.cloze import ClozeClassification
from graphformer.tasks.text.denoising import Denoising
from graphformer.tasks.text.distillation import Distillation
from graphformer.tasks.text.electra import ReplacedTokenDetection
from graphformer.tasks.text.knowledge.knowledge_embedding import KnowledgeEmbedding
from graphformer.tasks.text.knowledge.masked_nodes import MaskedNodeModeling
from graphformer.tasks.text.language import LanguageModeling
from graphformer.tasks.text.masked_language import MaskedLanguageModeling
from graphformer.tasks.text.permuted_language import PermutedLanguageModeling
from graphformer.tasks.text.sentence_contrast import SentenceContrast
from graphformer.tasks.text.seq2seq import SequenceToSequence
from graphformer.tasks.vision.image_text import ImageTextContrast
from graphformer.tasks.vision.masked_image import MaskedImageModeling
from graphformer.tasks.vision.vector_quantization import VectorQuantization

__all__ = [
    "Classification",
    "ClozeClassification",
    "Denoising",
    "DirectPreference",
    "Distillation",
    "EdgeClassification",
    "ImageTextContrast",
    "KnowledgeEmbedding",
    "LanguageModeling",
    "LatentDiffusion",
    "LinkPrediction",
    "MaskedImageModeling",
    "MaskedLanguageModeling",
    "MaskedNodeModeling",
    "MultiLabelClassification",
    "PermutedLanguageModeling",
    "PolicyOptimization",
    "QuestionAnswering",
    "Regression",
    "ReplacedTokenDetection",
    "RewardModeling",
    "SentenceContrast",
    "SequenceToSequence",
    "SupervisedFineTuning",
    "Task",
    "TaskOptions",
    "TextToImage",
    "VectorQuantization",
]
