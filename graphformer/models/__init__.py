"""Models of text, images and graphs: builders, classes, generation and text embedding."""

from graphformer.data.batch import pack_tokens  # noqa: F401 - for its old name
from graphformer.deprecated import renamed_exports
from graphformer.models.generation import generate
from graphformer.models.graph.gat import GAT, gat, residual_gat
from graphformer.models.graph.gcn import GCN, gcn
from graphformer.models.graph.gps import exphormer, gps
from graphformer.models.graph.hgt import HGT, TypedAttention, hgt
from graphformer.models.graph.model import GraphModel
from graphformer.models.graph.transformers import graph_transformer, graphormer
from graphformer.models.model import Model
from graphformer.models.multimodal.builders import flamingo, llava
from graphformer.models.multimodal.image_tokens import ImageTokens, VisionLanguageModel
from graphformer.models.multimodal.latent_diffusion import LatentDiffusionModel, latent_diffusion
from graphformer.models.multimodal.text_to_image import CodeTokens, TextToImageModel, dalle
from graphformer.models.text.builders import (
    bert,
    language_model,
    llama,
    reward_model,
    sentence_embedder,
    text_classifier,
    token_tagger,
    word_tagger,
)
from graphformer.models.text.embed import encode, search
from graphformer.models.text.recurrent import recurrent_language_model, recurrent_seq2seq
from graphformer.models.text.seq2seq import EncoderDecoder, encoder_decoder
from graphformer.models.vision.captioning import RecurrentCaptioner, captioner, recurrent_captioner
from graphformer.models.vision.clip import CLIP, clip
from graphformer.models.vision.cnn import cnn
from graphformer.models.vision.mae import MaskedAutoencoder, mae
from graphformer.models.vision.video import video_captioner, video_vit
from graphformer.models.vision.vit import ViT, vit
from graphformer.models.vision.vq import VectorQuantizer, VQAutoencoder, vq_autoencoder

__all__ = [
    "GAT",
    "GCN",
    "HGT",
    "CLIP",
    "CodeTokens",
    "EncoderDecoder",
    "GraphModel",
    "ImageTokens",
    "LatentDiffusionModel",
    "MaskedAutoencoder",
    "Model",
    "RecurrentCaptioner",
    "TypedAttention",
    "VQAutoencoder",
    "VectorQuantizer",
    "TextToImageModel",
    "ViT",
    "VisionLanguageModel",
    "bert",
    "encode",
    "captioner",
    "clip",
    "cnn",
    "dalle",
    "encoder_decoder",
    "exphormer",
    "flamingo",
    "gat",
    "gcn",
    "generate",
    "gps",
    "graph_transformer",
    "graphormer",
    "hgt",
    "language_model",
    "latent_diffusion",
    "llama",
    "llava",
    "mae",
    "recurrent_captioner",
    "recurrent_language_model",
    "recurrent_seq2seq",
    "residual_gat",
    "reward_model",
    "search",
    "sentence_embedder",
    "text_classifier",
    "token_tagger",
    "video_captioner",
    "video_vit",
    "vit",
    "vq_autoencoder",
    "word_tagger",
]

__getattr__ = renamed_exports(__name__, {"packed": "pack_tokens"})
