"""ViT and DeiT: images as patches behind a class token, and behind DeiT's second one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphformer.models import Model, ViT
from graphformer.nn import FeedForward, Head, MultiHeadAttention, Transformer
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import Complete, lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import Pooler
from graphformer.pretrained.families.family import Family, Kind

# The first name is that of files; transformers 5 has others in memory.
TRUNK = {
    "tokens": "embeddings.cls_token",
    "embedding.positions.table": "embeddings.position_embeddings",
    "embedding.features.weight": "embeddings.patch_embeddings.projection.weight^V",
    "embedding.features.bias": "embeddings.patch_embeddings.projection.bias",
    "transformer.blocks.#.attention.qkv.*": (
        "encoder.layer.#.attention.attention.{query,key,value}.*"
        "|layers.#.attention.{q_proj,k_proj,v_proj}.*"
    ),
    "transformer.blocks.#.attention.out.*": (
        "encoder.layer.#.attention.output.dense.*|layers.#.attention.o_proj.*"
    ),
    "transformer.blocks.#.norm1.*": (
        "encoder.layer.#.layernorm_before.*|layers.#.layernorm_before.*"
    ),
    "transformer.blocks.#.norm2.*": "encoder.layer.#.layernorm_after.*|layers.#.layernorm_after.*",
    "transformer.blocks.#.mlp.0.*": "encoder.layer.#.intermediate.dense.*|layers.#.mlp.fc1.*",
    "transformer.blocks.#.mlp.3.*": "encoder.layer.#.output.dense.*|layers.#.mlp.fc2.*",
    "transformer.norm.*": "layernorm.*",
    "pooler.dense.*": "pooler.dense.*",
}
CLASSES = {"head.linear.*": "classifier.*"}
TWO = {"head.linear.*": "cls_classifier.*", "head.second.*": "distillation_classifier.*"}
PATCHES, PLACES = "embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"
TOKENS = ("embeddings.cls_token", "embeddings.distillation_token")


class Distilled(Head):
    """DeiT's head: the mean of what the class token and the second one say.

    Source: Touvron et al., 2021, "Training data-efficient image transformers", section 4.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, pool="cls")
        self.second = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor, batch: Any) -> Tensor:
        """x [N, C] of a batch, tokens first -> [B, K]."""
        sizes = torch.tensor(lengths(batch), device=x.device)
        starts = sizes.cumsum(0) - sizes
        return (self.linear(x[starts]) + self.second(x[starts + 1])) / 2


def side(config: Config, name: str) -> tuple[int, int]:
    """A size of images or patches, which may be one number or two."""
    value = config.need(name)
    rows, columns = value if isinstance(value, list) else (value, value)
    return int(rows), int(columns)


def grid(config: Config) -> tuple[int, int]:
    """Rows and columns of the patches that positions were learned on."""
    (height, width), (rows, columns) = side(config, "image_size"), side(config, "patch_size")
    if rows != columns:
        raise ValueError(
            f"{config.origin} has patches of {rows} x {columns}, which are no squares."
        )
    return height // rows, width // columns


def build(config: Config, kind: Kind, tied: bool, *, tokens: int = 1) -> Model:
    """ViT of a config, or with two tokens DeiT, with the head of that kind."""
    config.demand("tanh", "pooler_act")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    config.demand(dim, "pooler_output_size")
    num_heads, hidden_dim = (
        config.heads(dim, "num_attention_heads"),
        config.size("intermediate_size"),
    )
    act, dropout = config.activation("hidden_act", "gelu"), config.get("hidden_dropout_prob", 0.0)
    features = nn.Linear(config.get("num_channels", 3) * side(config, "patch_size")[0] ** 2, dim)
    transformer = Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        dropout=dropout,
        attention=lambda _: MultiHeadAttention(
            dim,
            num_heads,
            bias=config.get("qkv_bias", True),
            out_bias=True,
            dropout=config.get("attention_probs_dropout_prob", 0.0),
        ),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
    )
    heads: dict[Kind, Any] = {
        "none": lambda: None,
        "classification": lambda: Head(dim, config.num_labels, pool="cls"),
        "distilled": lambda: Distilled(dim, config.num_labels),
    }
    embedding = PatchEmbedding(features, GridPositions(dim, grid(config)), dropout=dropout)
    model = ViT(embedding, transformer, heads[kind](), tokens=tokens)
    model.adjacency = Complete()
    if kind == "none":
        model.pooler = Pooler(dim)
    return model


def views(config: Config) -> dict[str, tuple[int, ...]]:
    """The linear map of patches as the convolution that it is stored as."""
    patch = side(config, "patch_size")
    return {PATCHES: (config.size("hidden_size"), config.get("num_channels", 3), *patch)}


def joined(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tokens with the places that are added to them, [tokens, C], and places on their grid.

    Raises ValueError for tensors of other shapes than the config says.
    """
    dim, (rows, columns) = config.size("hidden_size"), grid(config)
    own = [tensors[name] for name in TOKENS if name in tensors]
    shape = [1, len(own) + rows * columns, dim]
    if list(tensors[PLACES].shape) != shape or any(list(t.shape) != [1, 1, dim] for t in own):
        raise ValueError(
            f"the weights do not fit {config.origin}; of another shape: {PLACES} "
            f"({list(tensors[PLACES].shape)} there, {shape} by the config) or a token."
        )
    places = tensors[PLACES][0]
    tokens = torch.cat([token[0] for token in own])
    return {
        TOKENS[0]: tokens + places[: len(own)],
        PLACES: places[len(own) :].view(rows, columns, dim),
    }


def parted(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same as they are stored; tokens keep the places that were added to them."""
    tokens, places = tensors[f"{prefix}{TOKENS[0]}"], tensors[f"{prefix}{PLACES}"].flatten(0, 1)
    stored = {f"{prefix}{name}": t.view(1, 1, -1) for name, t in zip(TOKENS, tokens, strict=False)}
    zeros = torch.zeros_like(tokens)
    return {**tensors, **stored, f"{prefix}{PLACES}": torch.cat([zeros, places]).unsqueeze(0)}


VIT = Family(
    prefix="vit",
    build=build,
    trunk=TRUNK,
    heads={"classification": CLASSES},
    classes={"none": "ViTModel", "classification": "ViTForImageClassification"},
    known=("embeddings.mask_token",),
    views=views,
    joins=((TOKENS[0], PLACES), joined, parted),
    texts=False,
)


def build_deit(config: Config, kind: Kind, tied: bool) -> Model:
    """DeiT of a config, with the head of that kind."""
    return build(config, kind, tied, tokens=2)


DEIT = VIT._replace(
    prefix="deit",
    build=build_deit,
    heads={"classification": CLASSES, "distilled": TWO},
    classes={
        "none": "DeiTModel",
        "classification": "DeiTForImageClassification",
        "distilled": "DeiTForImageClassificationWithTeacher",
    },
    joins=((*TOKENS, PLACES), joined, parted),
)
