"""DINOv2: ViT whose residual branches are scaled, with gated feed-forward nets in the largest."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graphformer.models import ViT
from graphformer.nn import (
    FeedForward,
    GatedFeedForward,
    Head,
    MultiHeadAttention,
    Transformer,
    pool,
)
from graphformer.nn.patches import GridPositions, PatchEmbedding
from graphformer.patterns import Complete, lengths
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Conversion, Family, Kind
from graphformer.pretrained.families.vit import (
    POSITIONS,
    TOKENS,
    grid,
    merge_positions,
    side,
    split_positions,
    stored_shapes,
)

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
        "|encoder.layer.#.attention.{q_proj,k_proj,v_proj}.*"
    ),
    "transformer.blocks.#.attention.out.*": (
        "encoder.layer.#.attention.output.dense.*|encoder.layer.#.attention.o_proj.*"
    ),
    "transformer.blocks.#.norm1.*": "encoder.layer.#.norm1.*",
    "transformer.blocks.#.post_norm1.weight": "encoder.layer.#.layer_scale1.lambda1",
    "transformer.blocks.#.norm2.*": "encoder.layer.#.norm2.*",
    "transformer.blocks.#.post_norm2.weight": "encoder.layer.#.layer_scale2.lambda1",
    "transformer.blocks.#.mlp.0.*": "encoder.layer.#.mlp.fc1.*",
    "transformer.blocks.#.mlp.3.*": "encoder.layer.#.mlp.fc2.*",
    "transformer.blocks.#.mlp.gate_up.*": "encoder.layer.#.mlp.weights_in.*",
    "transformer.blocks.#.mlp.out.*": (
        "encoder.layer.#.mlp.weights_out.*|encoder.layer.#.mlp.down_proj.*"
    ),
    "transformer.norm.*": "layernorm.*",
}
GATES = re.compile(r"(.*\.mlp\.)(gate_proj|up_proj)(\.\w+)")
"""Keys in memory of what files have as one tensor."""


class LayerScale(nn.Module):
    """A learned factor of each channel, x [N, C] -> [N, C].

    Args:
        dim: width C.

    Source: Touvron et al., 2021, "Going deeper with image transformers", section 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factors."""
        return x * self.weight


class ClassAndMean(Head):
    """A linear map of the class token and the mean of the patches, concatenated.

    Args:
        dim: width C.
        out_dim: number of classes K.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(2 * dim, out_dim, pool="cls")

    def forward(self, x: Tensor, batch: BatchLike) -> Tensor:
        """Return logits, x [N, C] with the class token first in each sample -> [B, K]."""
        sizes = lengths(batch)
        first = pool(x, sizes, "cls")
        counts = torch.tensor(sizes, device=x.device).unsqueeze(1)
        mean = (pool(x, sizes, "sum") - first) / (counts - 1)
        return self.linear(torch.cat([first, mean], dim=1))


def build(config: Config, kind: Kind, tied: bool) -> ViT:
    """Build DINOv2 from a config, with a kind of head; `tied` is ignored."""
    config.values["use_mask_token"] = False  # for masked images only, which our model does not read
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-6)
    num_heads = config.num_heads(dim, "num_attention_heads")
    hidden_dim = int(dim * config.get("mlp_ratio", 4))
    act, dropout = config.activation("hidden_act", "gelu"), config.get("hidden_dropout_prob", 0.0)

    def attention(_: int) -> nn.Module:
        bias, rate = config.get("qkv_bias", True), config.get("attention_probs_dropout_prob", 0.0)
        return MultiHeadAttention(dim, num_heads, bias=bias, out_bias=True, dropout=rate)

    def mlp(_: int) -> nn.Module:
        if not config.get("use_swiglu_ffn", False):
            return FeedForward(dim, hidden_dim, activation=act)
        return GatedFeedForward(dim, (int(hidden_dim * 2 / 3) + 7) // 8 * 8)

    transformer = Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        attention=attention,
        mlp=mlp,
        layout="sandwich",
        post_norm=LayerScale,
    )
    features = nn.Linear(config.get("num_channels", 3) * side(config, "patch_size")[0] ** 2, dim)
    embedding = PatchEmbedding(features, GridPositions(dim, grid(config)), dropout=dropout)
    head = ClassAndMean(dim, config.num_labels) if kind == "classification" else None
    model = ViT(embedding, transformer, head, tokens=1)
    model.adjacency = Complete()
    return model


def converted_keys(keys: Collection[str]) -> list[str]:
    """Return the keys of the class token, the positions, and gates that are stored apart."""
    return [TOKENS[0], POSITIONS, *(key for key in keys if GATES.fullmatch(key))]


def merge(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merge the position of the class token into it, and gates with the maps that they gate."""
    merged: dict[str, Any] = merge_positions(config, tensors)
    for key, gate in tensors.items():
        match = GATES.fullmatch(key)
        if match is not None and match[2] == "gate_proj":
            up = tensors[f"{match[1]}up_proj{match[3]}"]
            merged[f"{match[1]}weights_in{match[3]}"] = torch.cat([gate, up])
    return merged


DINOV2 = Family(
    prefix="dinov2",
    build=build,
    trunk=TRUNK,
    heads={"classification": {"head.linear.*": "classifier.*"}},
    architectures={"none": "Dinov2Model", "classification": "Dinov2ForImageClassification"},
    ignored_keys=("embeddings.mask_token",),
    stored_shapes=stored_shapes,
    conversion=Conversion(converted_keys, merge, split_positions),
    is_text=False,
)
