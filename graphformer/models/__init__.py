"""Builder functions: one Transformer, put together for text, vision and graphs."""

from graphformer.models.baselines import GCN, gcn
from graphformer.models.captioning import RecurrentCaptioner, captioner, recurrent_captioner
from graphformer.models.clip import CLIP, clip
from graphformer.models.cnn import cnn
from graphformer.models.encoding import encode, packed, search
from graphformer.models.generation import generate
from graphformer.models.graph_attention import GAT, gat, residual_gat
from graphformer.models.graph_hybrids import exphormer, gps
from graphformer.models.graph_model import GraphModel
from graphformer.models.graph_transformers import graph_transformer, graphormer
from graphformer.models.mae import MaskedAutoencoder, mae
from graphformer.models.model import Model
from graphformer.models.recurrent import recurrent_language_model, recurrent_seq2seq
from graphformer.models.seq2seq import EncoderDecoder, encoder_decoder
from graphformer.models.text import (
    bert,
    language_model,
    llama,
    sentence_embedder,
    text_classifier,
    token_tagger,
)
from graphformer.models.vision import ViT, vit
from graphformer.models.words import word_tagger

__all__ = [
    "GAT",
    "GCN",
    "CLIP",
    "EncoderDecoder",
    "GraphModel",
    "MaskedAutoencoder",
    "Model",
    "RecurrentCaptioner",
    "ViT",
    "bert",
    "encode",
    "captioner",
    "clip",
    "cnn",
    "encoder_decoder",
    "exphormer",
    "gat",
    "gcn",
    "generate",
    "gps",
    "graph_transformer",
    "graphormer",
    "language_model",
    "llama",
    "mae",
    "packed",
    "recurrent_captioner",
    "recurrent_language_model",
    "recurrent_seq2seq",
    "residual_gat",
    "search",
    "sentence_embedder",
    "text_classifier",
    "token_tagger",
    "vit",
    "word_tagger",
]
