"""Modules: nodes [N, C] and an adjacency in, nodes [M, C] out."""

from graphformer.deprecated import renamed_exports
from graphformer.nn.attention import GraphAttention, MultiHeadAttention
from graphformer.nn.block import Block, DecoderBlock
from graphformer.nn.dropout import Dropout
from graphformer.nn.edge_bias import (
    DistanceBias,
    EdgeEncoder,
    FeatureBias,
    PartBias,
    PathBias,
    TimeEncoding,
    TypeBias,
    log_weight_bias,
)
from graphformer.nn.embedding import Embedding
from graphformer.nn.encodings import GraphEmbedding
from graphformer.nn.experts import GroupedRouter, MixtureOfExperts, balance_loss, balance_loss_share
from graphformer.nn.feedforward import FeedForward, GatedFeedForward, QuickGELU
from graphformer.nn.graph import (
    EdgeFeatureAttention,
    EgoSeparation,
    HybridBlock,
    JumpingTransformer,
    ResidualBlock,
)
from graphformer.nn.head import Head, Pooling, pool
from graphformer.nn.init import weight_std
from graphformer.nn.kv_cache import ContentKVCache, KVCache
from graphformer.nn.latent import LatentAttention
from graphformer.nn.patches import (
    Convolutions,
    GridPositions,
    PatchEmbedding,
    patchify,
    patchify_videos,
    unpatchify,
)
from graphformer.nn.positions import ALiBi, Positions, RelativeBias, Rotary, rotate, sinusoidal
from graphformer.nn.readout import AttentionPool, PairHead, SetPool
from graphformer.nn.record import draw_attention, record_attention
from graphformer.nn.transformer import Transformer

__all__ = [
    "ALiBi",
    "AttentionPool",
    "Block",
    "Convolutions",
    "GridPositions",
    "PatchEmbedding",
    "DecoderBlock",
    "DistanceBias",
    "EdgeFeatureAttention",
    "EdgeEncoder",
    "EgoSeparation",
    "Dropout",
    "Embedding",
    "FeatureBias",
    "FeedForward",
    "GatedFeedForward",
    "GraphAttention",
    "GraphEmbedding",
    "Head",
    "GroupedRouter",
    "HybridBlock",
    "JumpingTransformer",
    "ContentKVCache",
    "KVCache",
    "PartBias",
    "log_weight_bias",
    "LatentAttention",
    "MixtureOfExperts",
    "MultiHeadAttention",
    "PairHead",
    "PathBias",
    "Pooling",
    "Positions",
    "QuickGELU",
    "RelativeBias",
    "ResidualBlock",
    "Rotary",
    "SetPool",
    "TimeEncoding",
    "Transformer",
    "TypeBias",
    "balance_loss",
    "balance_loss_share",
    "draw_attention",
    "patchify",
    "patchify_videos",
    "unpatchify",
    "pool",
    "record_attention",
    "rotate",
    "sinusoidal",
    "weight_std",
]

__getattr__ = renamed_exports(
    __name__, {"EdgeOptions": "EdgeEncoder", "KeyValues": "KVCache", "KindBias": "PartBias"}
)
