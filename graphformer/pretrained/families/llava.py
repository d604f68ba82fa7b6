"""LLaVA: patches of a CLIP image encoder as tokens of a Llama-like decoder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.models import Model, ViT
from graphformer.models.multimodal.image_tokens import ImageTokens, VisionLanguageModel
from graphformer.nn import FeedForward, MultiHeadAttention, Transformer
from graphformer.nn.options import TransformerOptions
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import AdjacencyLike, Complete
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.clip import BLOCKS, IMAGE, encoder_config
from graphformer.pretrained.families.decoders.llama import LLAMA, MISTRAL, QWEN2
from graphformer.pretrained.families.decoders.llama import TRUNK as LLAMA_TRUNK
from graphformer.pretrained.families.family import Conversion, Family, Kind
from graphformer.pretrained.families.vit import grid, side

TOKEN, POSITIONS = "embeddings.class_embedding", "embeddings.position_embedding.weight"
PATCHES = "embeddings.patch_embedding.weight"
IMAGE_TRUNK = {
    "tokens": TOKEN,
    "embedding.positions.table": POSITIONS,
    "embedding.features.weight": f"{PATCHES}^V",
    "norm.*": "pre_layrnorm.*",
    **BLOCKS,
    "transformer.norm.*": "post_layernorm.*",
}


def both(key: str, folder: str, inner: str) -> str:
    """Return the key of a part in memory, and that in files with a further folder of names."""
    key, mark, rest = key.partition("^")
    return f"{folder}.{key}|{folder}.{inner}.{key}{mark}{rest}"


TRUNK = {
    **{name: both(key, "language_model", "model") for name, key in LLAMA_TRUNK.items()},
    **{
        f"embedding.image.{name}": both(key, "vision_tower", "vision_model")
        for name, key in IMAGE_TRUNK.items()
    },
    "embedding.projector.0.*": "multi_modal_projector.linear_1.*",
    "embedding.projector.2.*": "multi_modal_projector.linear_2.*",
}
DECODERS = {"llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2}


class FirstBlocks(Transformer):
    """A Transformer whose output is that of one of its blocks, without the final norm.

    The later blocks are stored with the weights, but not used.
    """

    used: int

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return block_used(... block_1(x)), [N, C]; arguments as in `Transformer`."""
        steps = self._block_inputs(x, adjacency, positions, options)
        for block, inputs, own in steps[: self.used]:
            x = block(x, *inputs, **own)
        return x


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build LLaVA from a config, with or without a head."""
    config.check_unset("default", "vision_feature_select_strategy")
    text = Config(dict(config.require("text_config")), f"{config.origin}, 'text_config'")
    name = text.get("model_type", "llama")
    if name not in DECODERS:
        raise ValueError(
            f"{text.origin}: got 'model_type': {name!r}, expected one of {', '.join(DECODERS)}"
        )
    text.values["model_type"] = name
    decoder: Model = DECODERS[name].build(text, kind, tied)
    tokens, dim = decoder.embedding.features, decoder.transformer.dim
    assert isinstance(tokens, nn.Embedding)
    image, bias = image_encoder(config), bool(config.get("multimodal_projector_bias", True))
    projector = nn.Sequential(
        nn.Linear(image.transformer.dim, dim, bias=bias),
        config.activation("projector_hidden_act", "gelu")(),
        nn.Linear(dim, dim, bias=bias),
    )
    token = config.get("image_token_index", config.get("image_token_id", 32000))
    embedding = ImageTokens(tokens, image, projector, token)
    assert decoder.adjacency is not None
    return VisionLanguageModel(
        embedding, decoder.transformer, decoder.head, adjacency=decoder.adjacency
    )


def image_encoder(config: Config) -> ViT:
    """Build the image encoder, which returns the patches of one of its blocks."""
    image = image_config(config)
    dim, depth = image.size("hidden_size"), image.size("num_hidden_layers")
    eps, num_heads = image.get("layer_norm_eps", 1e-5), image.num_heads(dim, "num_attention_heads")
    hidden_dim, act = image.size("intermediate_size"), image.activation("hidden_act", "quick_gelu")
    layer = config.get("vision_feature_layer", -2)
    if not isinstance(layer, int) or not -depth <= layer <= depth:
        raise ValueError(
            f"{config.origin}: got 'vision_feature_layer': {layer!r}, expected one number from "
            f"{-depth} to {depth}; several layers are not supported"
        )
    transformer = FirstBlocks(
        dim,
        depth,
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        attention=lambda _: MultiHeadAttention(
            dim, num_heads, dropout=image.get("attention_dropout", 0.0)
        ),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
    )
    transformer.used = layer if layer >= 0 else depth + 1 + layer
    patch = image.get("num_channels", 3) * side(image, "patch_size")[0] ** 2
    features = nn.Linear(patch, dim, bias=False)
    encoder = ViT(
        PatchEmbedding(features, GridPositions(dim, grid(image))),
        transformer,
        tokens=1,
        norm=nn.LayerNorm(dim, eps=eps),
    )
    encoder.adjacency = Complete()
    return encoder


def image_config(config: Config) -> Config:
    """Return the config of the image encoder; defaults are those of CLIP's ViT-L/14 at 336."""
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    large |= {"num_attention_heads": 16, "image_size": 336, "patch_size": 14}
    image = encoder_config(config, "vision_config", IMAGE | large)
    image.check_unset("clip_vision_model", "model_type")
    return image


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of the patch embedding, stored as a convolution."""
    image = image_config(config)
    shape = image.size("hidden_size"), image.get("num_channels", 3), *side(image, "patch_size")
    return {PATCHES: shape}


def position_keys(keys: Collection[str]) -> list[str]:
    """Return the keys of the class token and of the positions."""
    return [key for key in keys if key.endswith((TOKEN, POSITIONS))]


def merge_positions(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a position to the class token, and arrange the others on their grid."""
    (token,) = (key for key in tensors if key.endswith(TOKEN))
    (positions,) = (key for key in tensors if key.endswith(POSITIONS))
    rows, columns = grid(image_config(config))
    table = tensors[positions]
    if len(table) != 1 + rows * columns:
        raise ValueError(
            f"the weights do not match {config.origin}; mismatched shapes: {positions} "
            f"({list(table.shape)} stored, {1 + rows * columns} rows by the config); check its "
            "'image_size' and 'patch_size'"
        )
    return {
        token: (tensors[token] + table[0]).unsqueeze(0),
        positions: table[1:].view(rows, columns, -1),
    }


def split_positions(tensors: dict[str, Tensor], _: str) -> dict[str, Tensor]:
    """Return tensors in the stored form; the token keeps the position that was added."""
    stored: dict[str, Any] = dict(tensors)
    (token,) = (key for key in tensors if key.endswith(TOKEN))
    (positions,) = (key for key in tensors if key.endswith(POSITIONS))
    stored[token] = tensors[token][0].clone()
    table = tensors[positions].flatten(0, 1)
    stored[positions] = torch.cat([torch.zeros_like(tensors[token]), table])
    return stored


LLAVA = Family(
    prefix="model",
    build=build,
    trunk=TRUNK,
    heads={"causal_lm": {"head.linear.weight": "lm_head.weight|language_model.lm_head.weight"}},
    architectures={"none": "LlavaModel", "causal_lm": "LlavaForConditionalGeneration"},
    ignored_keys=(
        "vision_tower.vision_model.embeddings.position_ids",
        "vision_tower.embeddings.position_ids",
    ),
    stored_shapes=stored_shapes,
    conversion=Conversion(position_keys, merge_positions, split_positions),
    is_text=False,
    eos_token_id=2,
)
