"""SigLIP: an image encoder that pools by attention and a text encoder, compared by a sigmoid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graphformer.adjacency import complete
from graphformer.models import Model, ViT
from graphformer.models.vision.clip import CLIP as DualEncoder  # noqa: N811 - as in clip.py
from graphformer.nn import Embedding, FeedForward, Head, MultiHeadAttention, Positions
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import Complete, lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.clip import BLOCKS, encoder_config, transformer
from graphformer.pretrained.families.family import Conversion, Family, Kind
from graphformer.pretrained.families.vit import grid, side

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike

VISION = "vision_model."
TRUNK = {
    "image.embedding.features.weight": f"{VISION}embeddings.patch_embedding.weight^V",
    "image.embedding.features.bias": f"{VISION}embeddings.patch_embedding.bias",
    "image.embedding.positions.table": f"{VISION}embeddings.position_embedding.weight^V",
    **{f"image.{name}": f"{VISION}{key}" for name, key in BLOCKS.items()},
    "image.transformer.norm.*": f"{VISION}post_layernorm.*",
    "image.head.probe": f"{VISION}head.probe^V",
    "image.head.attention.qkv.weight": f"{VISION}head.attention.in_proj_weight",
    "image.head.attention.qkv.bias": f"{VISION}head.attention.in_proj_bias",
    "image.head.attention.out.*": f"{VISION}head.attention.out_proj.*",
    "image.head.norm.*": f"{VISION}head.layernorm.*",
    "image.head.mlp.0.*": f"{VISION}head.mlp.fc1.*",
    "image.head.mlp.3.*": f"{VISION}head.mlp.fc2.*",
    "text.embedding.features.weight": "text_model.embeddings.token_embedding.weight",
    "text.embedding.positions.tables.0.weight": "text_model.embeddings.position_embedding.weight",
    **{f"text.{name}": f"text_model.{key}" for name, key in BLOCKS.items()},
    "text.transformer.norm.*": "text_model.final_layer_norm.*",
    "text.head.linear.*": "text_model.head.*",
    "log_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
SHARED = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
TEXT = SHARED | {"vocab_size": 32000, "max_position_embeddings": 64}
IMAGE = SHARED | {"num_channels": 3, "image_size": 224, "patch_size": 16}
"""Defaults of the encoders' configs, which files leave out."""


class AttentionHead(nn.Module):
    """One learned query's attention to the nodes of each sample, with a feed-forward net.

    Args:
        dim: width C.
        num_heads: H.
        mlp: [B, C] -> [B, C].
        norm: normalization of its input.

    Source: Zhai et al., 2022, "Scaling vision transformers", section 2.3.
    """

    pool = "attention"

    def __init__(self, dim: int, num_heads: int, mlp: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, dim))
        self.attention = MultiHeadAttention(dim, num_heads)
        self.mlp, self.norm = mlp, norm

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return [B, C] of x [N, C]; of the batch, only lengths are read."""
        sizes = lengths(batch)
        query = self.probe.expand(len(sizes), -1)
        h = self.attention(query, complete([1] * len(sizes), sizes), x)
        return h + self.mlp(self.norm(h))


def build(config: Config, kind: Kind, tied: bool) -> DualEncoder:
    """Build SigLIP from a config; `kind` and `tied` are ignored."""
    text = encoder_config(config, "text_config", TEXT)
    image = encoder_config(config, "vision_config", IMAGE)
    image.check_unset(True, "vision_use_head")
    dim, num_heads = image.size("hidden_size"), image.size("num_attention_heads")
    act, eps = image.activation("hidden_act", "gelu"), image.get("layer_norm_eps", 1e-6)
    mlp = FeedForward(dim, image.size("intermediate_size"), activation=act)
    features = nn.Linear(image.size("num_channels") * side(image, "patch_size")[0] ** 2, dim)
    image_encoder = ViT(
        PatchEmbedding(features, GridPositions(dim, grid(image))),
        transformer(image),
        AttentionHead(dim, num_heads, mlp, nn.LayerNorm(dim, eps=eps)),
    )
    image_encoder.adjacency = Complete()
    dim = text.size("hidden_size")
    positions = Positions(dim, text.size("max_position_embeddings"))
    text_encoder = Model(
        Embedding(nn.Embedding(text.size("vocab_size"), dim), positions),
        transformer(text),
        Head(dim, text.get("projection_size", dim), pool="last"),
        adjacency=Complete(),
    )
    return DualEncoder(image_encoder, text_encoder, max_scale=math.inf, bias=-10.0)


def stored_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the image encoder's convolution, positions and query."""
    image = encoder_config(config, "vision_config", IMAGE)
    dim, (rows, columns) = image.size("hidden_size"), grid(image)
    return {
        "patch_embedding.weight": (dim, image.size("num_channels"), *side(image, "patch_size")),
        f"{VISION}embeddings.position_embedding.weight": (rows * columns, dim),
        "head.probe": (1, 1, dim),
    }


SCALARS = ("logit_scale", "logit_bias")


def to_scalars(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return scale and bias as scalars, which are stored with one dimension."""
    return {name: tensor.reshape(()) for name, tensor in tensors.items()}


def from_scalars(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return tensors in the stored form."""
    return {**tensors, **{name: tensors[name].reshape(1) for name in SCALARS}}


SIGLIP = Family(
    prefix="",
    build=build,
    trunk=TRUNK,
    heads={},
    architectures={"none": "SiglipModel"},
    ignored_keys=("text_model.embeddings.position_ids", f"{VISION}embeddings.position_ids"),
    stored_shapes=stored_shapes,
    conversion=Conversion(SCALARS, to_scalars, from_scalars),
    is_text=False,
)
