"""Gemma 1, 2 and 3: Llama's architecture with scaled embeddings, other norms, and windows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from graphformer.models import Model
from graphformer.nn import (
    Embedding,
    GatedFeedForward,
    Head,
    MultiHeadAttention,
    Rotary,
    Transformer,
)
from graphformer.nn.norm import RMSNorm
from graphformer.patterns import Causal, Pattern, Window
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.decoders.llama import HEADS, layer_types, rotary
from graphformer.pretrained.families.decoders.llama import TRUNK as LLAMA_TRUNK
from graphformer.pretrained.families.family import Family, Kind

SANDWICH = {
    "transformer.blocks.#.post_norm1.weight": "layers.#.post_attention_layernorm.weight",
    "transformer.blocks.#.norm2.weight": "layers.#.pre_feedforward_layernorm.weight",
    "transformer.blocks.#.post_norm2.weight": "layers.#.post_feedforward_layernorm.weight",
}
"""Keys of Gemma 2 and 3, which normalize the outputs of both parts of a block too."""


class Norm(RMSNorm):
    """Gemma's RMS normalization, with weights around 0, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [..., C]; [..., C]."""
        wide = x.float()
        assert self.eps is not None
        wide = wide * (wide.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
        return (wide * (1 + self.weight.float())).type_as(x)


def build(config: Config, kind: Kind, tied: bool, *, version: int) -> Model:
    """Build Gemma from a config, with a kind of head; that of tokens is tied or not."""
    config.check_unset(False, "use_bidirectional_attention")
    defaults = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    caps = Config({**(defaults if version == 2 else {}), **config.values}, config.origin)
    if version != 2:
        caps.check_unset(None, "attn_logit_softcapping")
    dim, depth = config.size("hidden_size"), config.size("num_hidden_layers")
    num_heads, width = config.size("num_attention_heads"), config.get("head_dim", 256)
    groups = config.get("num_key_value_heads", num_heads if version == 1 else 4)
    act = config.activation("hidden_act" if version == 1 else "hidden_activation", "gelu_new")
    hidden_dim, bias = config.size("intermediate_size"), bool(config.get("attention_bias", False))
    norm = partial(Norm, eps=config.get("rms_norm_eps", 1e-6))
    scalar = config.get("query_pre_attn_scalar", 256) if version > 1 else width

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(
            dim,
            num_heads,
            num_kv_heads=groups,
            head_dim=width,
            bias=bias,
            qk_norm=norm if version == 3 else None,
            scale=scalar**-0.5,
            softcap=caps.get("attn_logit_softcapping", None),
            dropout=config.get("attention_dropout", 0.0),
        )

    scale = float(np.float32(dim**0.5))  # rounded, as it is stored with the weights
    embedding = Embedding(nn.Embedding(config.size("vocab_size"), dim), scale=scale)
    period = {1: 1, 2: 2, 3: config.get("sliding_window_pattern", 6)}[version]
    types = layer_types(config, [bool((i + 1) % period) for i in range(depth)])
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=norm,
        attention=attention,
        mlp=lambda _: GatedFeedForward(dim, hidden_dim, activation=act, bias=False),
        position_encoding=rotations(config, width, types)
        if version == 3
        else rotary(config, width),
        layout="sequential" if version == 1 else "sandwich",
    )
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, 0.1)
    if isinstance(head, Head) and kind == "causal_lm":
        head.softcap = caps.get("final_logit_softcapping", None)
    window = Window(config.get("sliding_window", 4096) - 1, causal=True)
    patterns: list[Pattern] = [Causal() if name == "full_attention" else window for name in types]
    whole = all(name == "full_attention" for name in types)
    return Model(embedding, transformer, head, adjacency=Causal() if whole else patterns)


def rotations(config: Config, width: int, types: list[str]) -> list[Rotary]:
    """Return the rotary positions of each block of Gemma 3, which differ by type of block."""
    stated: dict[str, Any] = config.get("rope_parameters", {})
    unknown = [name for name in stated if name not in ("full_attention", "sliding_attention")]
    if unknown:
        raise ValueError(
            f"{config.origin}: got 'rope_parameters' with {unknown[0]!r}, expected settings for "
            "'full_attention' and 'sliding_attention'"
        )
    settings = {  # the defaults are settings of older files
        "full_attention": {
            "rope_theta": config.get("rope_theta", 1e6),
            **(stated.get("full_attention") or {}),
            **config.get("rope_scaling", {}),
        },
        "sliding_attention": {
            "rope_theta": config.get("rope_local_base_freq", 1e4),
            **(stated.get("sliding_attention") or {}),
        },
    }
    others = {name: value for name, value in config.values.items() if "rope" not in name}
    by_type = {
        name: rotary(Config({**others, "rope_parameters": settings[name]}, config.origin), width)
        for name in set(types)
    }
    return [by_type[name] for name in types]


def family(name: str, version: int, trunk: str | None = None) -> Family:
    """Return the family whose classes in `transformers` start with `name`.

    Args:
        name: first part of the names.
        version: of Gemma, 1 to 3.
        trunk: name of the class without a head, if it differs.
    """
    return Family(
        prefix="model",
        build=partial(build, version=version),
        trunk=LLAMA_TRUNK if version == 1 else LLAMA_TRUNK | SANDWICH,
        heads=HEADS,
        architectures={
            "none": trunk or f"{name}Model",
            "causal_lm": f"{name}ForCausalLM",
            "classification": f"{(trunk or name).removesuffix('Model')}ForSequenceClassification",
        },
        tie_word_embeddings=True,
        eos_token_id=1,
    )


GEMMA = family("Gemma", 1)
GEMMA2 = family("Gemma2", 2)
GEMMA3 = family("Gemma3", 3, "Gemma3TextModel")
