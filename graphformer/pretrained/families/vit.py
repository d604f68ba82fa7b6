"""ViT, DeiT and ViT-MAE: patches after a class token, and after the distillation token of DeiT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graphformer.models import Model, ViT
from graphformer.nn import FeedForward, Head, MultiHeadAttention, Transformer
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import Complete, lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.bert import Pooler
from graphformer.pretrained.families.family import Conversion, Family, Kind

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

# The first keys are those of files; transformers 5 has others in memory.
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
PATCHES, POSITIONS = (
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.position_embeddings",
)
TOKENS = ("embeddings.cls_token", "embeddings.distillation_token")


class Distilled(Head):
    """DeiT's head: the mean of the logits of the class token and of the distillation token.

    Args:
        dim: width C.
        out_dim: number of classes K.

    Source: Touvron et al., 2021, "Training data-efficient image transformers", section 4.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, pool="cls")
        self.second = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return logits, x [N, C] with the two tokens first in each sample -> [B, K]."""
        sizes = torch.tensor(lengths(batch), device=x.device)
        starts = sizes.cumsum(0) - sizes
        return (self.linear(x[starts]) + self.second(x[starts + 1])) / 2


def side(config: Config, name: str) -> tuple[int, int]:
    """Return height and width of images or patches; the setting is one number or two."""
    value = config.require(name)
    rows, columns = value if isinstance(value, list) else (value, value)
    return int(rows), int(columns)


def grid(config: Config) -> tuple[int, int]:
    """Return rows and columns of the patches that positions were learned for."""
    (height, width), (rows, columns) = side(config, "image_size"), side(config, "patch_size")
    if rows != columns:
        raise ValueError(
            f"{config.origin}: got patches of {rows} x {columns}, expected squares; other shapes "
            "are not supported"
        )
    return height // rows, width // columns


def build(config: Config, kind: Kind, tied: bool, *, tokens: int = 1) -> Model:
    """Build ViT from a config, or DeiT with two tokens, with a kind of head; `tied` is ignored."""
    config.check_unset("tanh", "pooler_act")
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-12)
    config.check_unset(dim, "pooler_output_size")
    num_heads, hidden_dim = (
        config.num_heads(dim, "num_attention_heads"),
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


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of the patch embedding, which is stored as a convolution."""
    patch = side(config, "patch_size")
    return {PATCHES: (config.size("hidden_size"), config.get("num_channels", 3), *patch)}


def merge_positions(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add positions to the tokens, [tokens, C], and arrange the others on their grid.

    Raises:
        ValueError: when tensors have other shapes than the config implies.
    """
    dim, (rows, columns) = config.size("hidden_size"), grid(config)
    own = [tensors[name] for name in TOKENS if name in tensors]
    shape = [1, len(own) + rows * columns, dim]
    if list(tensors[POSITIONS].shape) != shape or any(list(t.shape) != [1, 1, dim] for t in own):
        raise ValueError(
            f"the weights do not match {config.origin}; mismatched shapes: {POSITIONS} "
            f"({list(tensors[POSITIONS].shape)} stored, {shape} by the config) or a token; check "
            "its sizes"
        )
    positions = tensors[POSITIONS][0]
    tokens = torch.cat([token[0] for token in own])
    return {
        TOKENS[0]: tokens + positions[: len(own)],
        POSITIONS: positions[len(own) :].view(rows, columns, dim),
    }


def split_positions(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return tensors in the stored form; the tokens keep the positions that were added."""
    tokens = tensors[f"{prefix}{TOKENS[0]}"]
    positions = tensors[f"{prefix}{POSITIONS}"].flatten(0, 1)
    stored = {f"{prefix}{name}": t.view(1, 1, -1) for name, t in zip(TOKENS, tokens, strict=False)}
    zeros = torch.zeros_like(tokens)
    return {**tensors, **stored, f"{prefix}{POSITIONS}": torch.cat([zeros, positions]).unsqueeze(0)}


VIT = Family(
    prefix="vit",
    build=build,
    trunk=TRUNK,
    heads={"classification": CLASSES},
    architectures={"none": "ViTModel", "classification": "ViTForImageClassification"},
    ignored_keys=("embeddings.mask_token",),
    stored_shapes=stored_shapes,
    conversion=Conversion((TOKENS[0], POSITIONS), merge_positions, split_positions),
    is_text=False,
)


# The encoder of a masked autoencoder. Its decoder reads the class token, which that of
# `MaskedAutoencoder` does not, so it is left out.
VIT_MAE = VIT._replace(
    heads={},
    architectures={"none": "ViTMAEModel"},
    aliases={"ViTMAEForPreTraining": "none"},
    ignored_keys=("decoder.*",),
)


def build_deit(config: Config, kind: Kind, tied: bool) -> Model:
    """Build DeiT from a config, with a kind of head."""
    return build(config, kind, tied, tokens=2)


DEIT = VIT._replace(
    prefix="deit",
    build=build_deit,
    heads={"classification": CLASSES, "distilled": TWO},
    architectures={
        "none": "DeiTModel",
        "classification": "DeiTForImageClassification",
        "distilled": "DeiTForImageClassificationWithTeacher",
    },
    conversion=Conversion((*TOKENS, POSITIONS), merge_positions, split_positions),
)
