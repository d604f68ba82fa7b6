"""OPT: GPT-2's architecture with positions counted from 2, ReLU and keys of its own."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphformer.models import Model
from graphformer.nn import Embedding, FeedForward, MultiHeadAttention, Positions, Transformer
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "decoder.embed_tokens.weight",
    "embedding.positions.tables.0.weight": "decoder.embed_positions.weight",
    "transformer.blocks.#.norm1.*": "decoder.layers.#.self_attn_layer_norm.*",
    "transformer.blocks.#.attention.qkv.*": "decoder.layers.#.self_attn.{q_proj,k_proj,v_proj}.*",
    "transformer.blocks.#.attention.out.*": "decoder.layers.#.self_attn.out_proj.*",
    "transformer.blocks.#.norm2.*": "decoder.layers.#.final_layer_norm.*",
    "transformer.blocks.#.mlp.0.*": "decoder.layers.#.fc1.*",
    "transformer.blocks.#.mlp.3.*": "decoder.layers.#.fc2.*",
    "transformer.norm.*": "decoder.final_layer_norm.*",
    # Where tokens have narrower embeddings, as in OPT-350m
    "embedding.feature_projection.weight": "decoder.project_in.weight",
    "transformer.norm.0.*": "decoder.final_layer_norm.*",
    "transformer.norm.1.weight": "decoder.project_out.weight",
}
OFFSET = 2
"""Rows of the position table before that of position 0."""


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build OPT from a config, with a kind of head; a language modeling head is tied or not."""
    dim = config.size("hidden_size")
    width = config.get("word_embed_proj_dim", dim)
    config.check_unset(False, "_remove_final_layer_norm")
    num_heads, hidden_dim = config.num_heads(dim, "num_attention_heads"), config.size("ffn_dim")
    act = config.activation("activation_function", "relu")
    dropout, bias = config.get("dropout", 0.1), bool(config.get("enable_bias", True))
    affine = bool(config.get("layer_norm_elementwise_affine", True))

    def attention(_: int) -> nn.Module:
        rate = config.get("attention_dropout", 0.0)
        return MultiHeadAttention(dim, num_heads, bias=bias, dropout=rate)

    def norm(width: int) -> nn.Module:
        return nn.LayerNorm(width, elementwise_affine=affine)

    positions = Positions(dim, config.size("max_position_embeddings"), offset=OFFSET)
    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), width),
        positions,
        feature_projection=None if width == dim else nn.Linear(width, dim, bias=False),
    )
    options: dict[str, Any] = {"norm_first": bool(config.get("do_layer_norm_before", True))}
    transformer = Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=norm,
        dropout=dropout,
        attention=attention,
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act, bias=bias),
        **options,
    )
    if width != dim:
        transformer.norm = nn.Sequential(transformer.norm, nn.Linear(dim, width, bias=False))
    head = decoder_head(embedding, width, config.num_labels, kind, tied, dropout)
    return Model(embedding, transformer, head, adjacency=Causal())


OPT = Family(
    prefix="model",
    build=build,
    trunk=TRUNK,
    heads={
        "causal_lm": {"head.linear.weight": "lm_head.weight"},
        "classification": {"head.linear.weight": "score.weight"},
    },
    architectures={
        "none": "OPTModel",
        "causal_lm": "OPTForCausalLM",
        "classification": "OPTForSequenceClassification",
    },
    tie_word_embeddings=True,
    eos_token_id=2,
)
