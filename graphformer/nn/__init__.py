"""Modules: nodes [N, C] and an adjacency in, nodes [M, C] out."""

from graphformer.nn.attention import GraphAttention, MultiHeadAttention
from graphformer.nn.block import Block, DecoderBlock, FeedForward
from graphformer.nn.embedding import Embedding, Positions, sinusoidal
from graphformer.nn.head import Head, pool
from graphformer.nn.transformer import Transformer

__all__ = [
    "Block",
    "DecoderBlock",
    "Embedding",
    "FeedForward",
    "GraphAttention",
    "Head",
    "MultiHeadAttention",
    "Positions",
    "Transformer",
    "pool",
    "sinusoidal",
]
