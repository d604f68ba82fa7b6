"""CLIP: a tower of images and one of texts, whose vectors are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.models import Model, ViT
from graphformer.models.vision.clip import CLIP as TwoTowers  # noqa: N811 - the family has its name
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
from graphformer.patterns import Causal, Complete
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Family, Kind
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
PLACES = "vision_model.embeddings.position_embedding.weight"
PATCHES = "vision_model.embeddings.patch_embedding.weight"
TRUNK = {
    "image.tokens": TOKEN,
    "image.embedding.positions.table": PLACES,
    "image.embedding.features.weight": f"{PATCHES}^V",
    "image.norm.*": "vision_model.pre_layrnorm.*",
    **{f"image.{ours}": f"vision_model.{theirs}" for ours, theirs in BLOCKS.items()},
    "image.transformer.norm.*": "vision_model.post_layernorm.*",
    "image.head.linear.weight": "visual_projection.weight",
    "text.embedding.features.weight": "text_model.embeddings.token_embedding.weight",
    "text.embedding.positions.tables.0.weight": "text_model.embeddings.position_embedding.weight",
    **{f"text.{ours}": f"text_model.{theirs}" for ours, theirs in BLOCKS.items()},
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
}
IMAGE = SHARED | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
"""What the configs of towers leave out."""


def tower(config: Config, name: str, defaults: Mapping[str, Any]) -> Config:
    """The config of a tower, with what it leaves out."""
    given = {**config.get(name, {}), **config.get(f"{name}_dict", {})}
    stated = {key: value for key, value in given.items() if value is not None}
    return Config({**defaults, **stated}, f"{config.origin}, in its {name!r},")


def blocks(config: Config) -> Transformer:
    """The blocks of a tower."""
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-5)
    num_heads = config.heads(dim, "num_attention_heads")
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


def build(config: Config, kind: Kind, tied: bool) -> TwoTowers:
    """CLIP of a config."""
    text, image = tower(config, "text_config", TEXT), tower(config, "vision_config", IMAGE)
    width, dim = config.get("projection_dim", 512), image.size("hidden_size")
    patch = image.get("num_channels", 3) * side(image, "patch_size")[0] ** 2
    eye = ViT(
        PatchEmbedding(nn.Linear(patch, dim, bias=False), GridPositions(dim, grid(image))),
        blocks(image),
        Head(dim, width, pool="cls", bias=False),
        tokens=1,
        norm=nn.LayerNorm(dim, eps=image.get("layer_norm_eps", 1e-5)),
    )
    eye.adjacency = Complete()
    dim = text.size("hidden_size")
    places = Positions(dim, text.size("max_position_embeddings"))
    reader = Model(
        Embedding(nn.Embedding(text.size("vocab_size"), dim), places),
        blocks(text),
        Head(dim, width, pool="last", bias=False),
        adjacency=Causal(),
    )
    return TwoTowers(eye, reader)


def views(config: Config) -> dict[str, tuple[int, ...]]:
    """The linear map of patches as the convolution that it is stored as."""
    image = tower(config, "vision_config", IMAGE)
    shape = image.size("hidden_size"), image.size("num_channels"), *side(image, "patch_size")
    return {PATCHES: shape}


def joined(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The class token with the place that is added to it, and places on their grid.

    Raises ValueError for tensors of other shapes than the config says, and for a scale above 100,
    which ours never has.
    """
    image = tower(config, "vision_config", IMAGE)
    dim, (rows, columns) = image.size("hidden_size"), grid(image)
    places, token = tensors[PLACES], tensors[TOKEN]
    shapes = [1 + rows * columns, dim], [dim]
    if (list(places.shape), list(token.shape)) != shapes:
        raise ValueError(
            f"the weights do not fit {image.origin} of another shape: {PLACES} or {TOKEN} "
            f"({list(places.shape)} and {list(token.shape)} there, {shapes[0]} and {shapes[1]} by "
            "the config)."
        )
    if float(tensors["logit_scale"]) > MAX_LOG_SCALE + 1e-2:
        scale = math.exp(float(tensors["logit_scale"]))
        raise ValueError(f"logit_scale stands for {scale:.4g}, but this library takes at most 100.")
    return {
        TOKEN: (token + places[0]).unsqueeze(0),
        PLACES: places[1:].view(rows, columns, dim),
        "logit_scale": tensors["logit_scale"],
    }


def parted(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same as they are stored; the token keeps the place that was added to it."""
    token, places = tensors[TOKEN], tensors[PLACES].flatten(0, 1)
    stored = {TOKEN: token[0].clone(), PLACES: torch.cat([torch.zeros_like(token), places])}
    return {**tensors, **stored}


CLIP = Family(
    prefix="",
    build=build,
    trunk=TRUNK,
    heads={},
    classes={"none": "CLIPModel"},
    known=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
    views=views,
    joins=((TOKEN, PLACES, "logit_scale"), joined, parted),
    texts=False,
)
