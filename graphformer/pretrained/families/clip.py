"""CLIP: an image encoder and a text encoder with a common embedding space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.batch_type import BatchLike
from graphformer.models import Model, ViT
from graphformer.models.vision.clip import CLIP as DualEncoder  # noqa: N811 - CLIP is the family
from graphformer.models.vision.clip import MAX_LOG_SCALE
from graphformer.nn import (
    Embedding,
    FeedForward,
    Head,
    MultiHeadAttention,
    Positions,
    Transformer,
)
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import Causal, Complete, lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Conversion, Family, Kind
from graphformer.pretrained.families.vit import grid, side

BLOCKS = {
    "transformer.blocks.#.attention.qkv.*": "encoder.layers.#.self_attn.{q_proj,k_proj,v_proj}.*",
    "transformer.blocks.#.attention.out.*": "encoder.layers.#.self_attn.out_proj.*",
    "transformer.blocks.#.norm1.*": "encoder.layers.#.layer_norm1.*",
    "transformer.blocks.#.mlp.0.*": "encoder.layers.#.mlp.fc1.*",
    "transformer.blocks.#.mlp.3.*": "encoder.layers.#.mlp.fc2.*",
    "transformer.blocks.#.norm2.*": "encoder.layers.#.layer_norm2.*",
}
TOKEN = "vision_model.embeddings.class_embedding"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
PATCHES = "vision_model.embeddings.patch_embedding.weight"
TRUNK = {
    "image.tokens": TOKEN,
    "image.embedding.positions.table": POSITIONS,
    "image.embedding.features.weight": f"{PATCHES}^V",
    "image.norm.*": "vision_model.pre_layrnorm.*",
    **{f"image.{name}": f"vision_model.{key}" for name, key in BLOCKS.items()},
    "image.transformer.norm.*": "vision_model.post_layernorm.*",
    "image.head.linear.weight": "visual_projection.weight",
    "text.embedding.features.weight": "text_model.embeddings.token_embedding.weight",
    "text.embedding.positions.tables.0.weight": "text_model.embeddings.position_embedding.weight",
    **{f"text.{name}": f"text_model.{key}" for name, key in BLOCKS.items()},
    "text.transformer.norm.*": "text_model.final_layer_norm.*",
    "text.head.linear.weight": "text_projection.weight",
    "log_scale": "logit_scale",
}
SHARED = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
TEXT = SHARED | {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
IMAGE = SHARED | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
"""Defaults of the encoders' configs, which files leave out."""


LEGACY_END_TOKEN = 2
"""The end token in the config of old checkpoints, whose texts end with their largest id."""


class EndTokenHead(nn.Module):
    """A linear map of each text's node at its first end token.

    A text without an end token is read at its first token, as in `transformers`.

    Args:
        dim: width C.
        out_dim: width K of the vectors.
        eos_token_id: the end token; for `LEGACY_END_TOKEN` it is the largest id of each text.
    """

    pool = "end_token"

    def __init__(self, dim: int, out_dim: int, eos_token_id: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, out_dim, bias=False)
        self.eos_token_id = eos_token_id

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return [B, K] of x [N, C] and the tokens `batch.x` [N]."""
        return self.linear(x[end_nodes(batch.x, lengths(batch), self.eos_token_id)])


def end_nodes(tokens: Tensor, sizes: tuple[int, ...], eos_token_id: int) -> Tensor:
    """Return the node of each text's first end token, or else of its first token, int64 [B].

    Args:
        tokens: ids of all texts, packed end to end, [N].
        sizes: number of tokens of each text, B ints.
        eos_token_id: as of `EndTokenHead`.

    Raises:
        ValueError: when a text is empty.
    """
    if 0 in sizes:
        raise ValueError("lengths: got an empty text, expected at least one token in each")
    count, device = tokens.shape[0], tokens.device
    counts = torch.tensor(sizes, dtype=torch.int64, device=device)
    starts = counts.cumsum(0) - counts
    text = torch.arange(len(sizes), device=device).repeat_interleave(counts, output_size=count)
    if eos_token_id == LEGACY_END_TOKEN:
        largest = starts.new_zeros(len(sizes)).scatter_reduce(0, text, tokens, "amax")
        is_end = tokens == largest[text]
    else:
        is_end = tokens == eos_token_id
    nodes = torch.where(is_end, torch.arange(count, device=device), count)
    first = torch.full_like(starts, count).scatter_reduce(0, text, nodes, "amin")
    return torch.where(first < count, first, starts)


def encoder_config(config: Config, name: str, defaults: Mapping[str, Any]) -> Config:
    """Return the config of an encoder, `text_config` or `vision_config`, with its defaults."""
    settings = {**config.get(name, {}), **config.get(f"{name}_dict", {})}
    stated = {key: value for key, value in settings.items() if value is not None}
    return Config({**defaults, **stated}, f"{config.origin}, {name!r}")


def transformer(config: Config) -> Transformer:
    """Build the Transformer of an encoder."""
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-5)
    num_heads = config.num_heads(dim, "num_attention_heads")
    hidden_dim, act = config.size("intermediate_size"), config.activation("hidden_act", "gelu")
    dropout = config.get("attention_dropout", 0.0)
    return Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        attention=lambda _: MultiHeadAttention(dim, num_heads, dropout=dropout),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
    )


def build(config: Config, kind: Kind, tied: bool) -> DualEncoder:
    """Build CLIP from a config; `kind` and `tied` are ignored."""
    text = encoder_config(config, "text_config", TEXT)
    image = encoder_config(config, "vision_config", IMAGE)
    width, dim = config.get("projection_dim", 512), image.size("hidden_size")
    patch = image.get("num_channels", 3) * side(image, "patch_size")[0] ** 2
    image_encoder = ViT(
        PatchEmbedding(nn.Linear(patch, dim, bias=False), GridPositions(dim, grid(image))),
        transformer(image),
        Head(dim, width, pool="cls", bias=False),
        tokens=1,
        norm=nn.LayerNorm(dim, eps=image.get("layer_norm_eps", 1e-5)),
    )
    image_encoder.adjacency = Complete()
    dim = text.size("hidden_size")
    positions = Positions(dim, text.size("max_position_embeddings"))
    text_encoder = Model(
        Embedding(nn.Embedding(text.size("vocab_size"), dim), positions),
        transformer(text),
        EndTokenHead(dim, width, text.token_id("eos_token_id")),
        adjacency=Causal(),
    )
    return DualEncoder(image_encoder, text_encoder)


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of the image encoder's patch embedding, stored as a convolution."""
    image = encoder_config(config, "vision_config", IMAGE)
    shape = image.size("hidden_size"), image.size("num_channels"), *side(image, "patch_size")
    return {PATCHES: shape}


def merge_positions(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a position to the class token, and arrange the others on their grid.

    Raises:
        ValueError: when tensors have other shapes than the config implies, or the scale exceeds
            the maximum of our model, 100.
    """
    image = encoder_config(config, "vision_config", IMAGE)
    dim, (rows, columns) = image.size("hidden_size"), grid(image)
    positions, token = tensors[POSITIONS], tensors[TOKEN]
    shapes = [1 + rows * columns, dim], [dim]
    if (list(positions.shape), list(token.shape)) != shapes:
        raise ValueError(
            f"the weights do not match {image.origin}; mismatched shapes: {POSITIONS} or {TOKEN} "
            f"({list(positions.shape)} and {list(token.shape)} stored, {shapes[0]} and {shapes[1]} "
            "by the config); check its sizes"
        )
    if float(tensors["logit_scale"]) > MAX_LOG_SCALE + 1e-2:
        scale = math.exp(float(tensors["logit_scale"]))
        raise ValueError(f"logit_scale: got a scale of {scale:.4g}, expected at most 100")
    return {
        TOKEN: (token + positions[0]).unsqueeze(0),
        POSITIONS: positions[1:].view(rows, columns, dim),
        "logit_scale": tensors["logit_scale"],
    }


def split_positions(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return tensors in the stored form; the token keeps the position that was added."""
    token, positions = tensors[TOKEN], tensors[POSITIONS].flatten(0, 1)
    stored = {TOKEN: token[0].clone(), POSITIONS: torch.cat([torch.zeros_like(token), positions])}
    return {**tensors, **stored}


CLIP = Family(
    prefix="",
    build=build,
    trunk=TRUNK,
    heads={},
    architectures={"none": "CLIPModel"},
    ignored_keys=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
    stored_shapes=stored_shapes,
    conversion=Conversion((TOKEN, POSITIONS, "logit_scale"), merge_positions, split_positions),
    is_text=False,
)
