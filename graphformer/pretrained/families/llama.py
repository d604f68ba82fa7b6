"""Llama and those like it: SmolLM, Mistral, Qwen2 and Qwen3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.models import Model
from graphformer.nn import (
    Embedding,
    GatedFeedForward,
    MultiHeadAttention,
    Rotary,
    Transformer,
)
from graphformer.patterns import Causal, Pattern, Window
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Family, Kind
from graphformer.pretrained.families.gpt2 import decoder_head

TRUNK = {
    "embedding.features.weight": "embed_tokens.weight",
    "transformer.blocks.#.norm1.weight": "layers.#.input_layernorm.weight",
    "transformer.blocks.#.attention.qkv.*": "layers.#.self_attn.{q_proj,k_proj,v_proj}.*",
    "transformer.blocks.#.attention.q_norm.weight": "layers.#.self_attn.q_norm.weight",
    "transformer.blocks.#.attention.k_norm.weight": "layers.#.self_attn.k_norm.weight",
    "transformer.blocks.#.attention.out.*": "layers.#.self_attn.o_proj.*",
    "transformer.blocks.#.norm2.weight": "layers.#.post_attention_layernorm.weight",
    "transformer.blocks.#.mlp.gate_up.*": "layers.#.mlp.{gate_proj,up_proj}.*",
    "transformer.blocks.#.mlp.out.*": "layers.#.mlp.down_proj.*",
    "transformer.norm.weight": "norm.weight",
}
HEADS: dict[Kind, dict[str, str]] = {
    "causal_lm": {"head.linear.weight": "lm_head.weight"},
    "classification": {"head.linear.weight": "score.weight"},
    "tagging": {"head.linear.*": "score.*"},
}
NAMES = {
    "none": "Model",
    "causal_lm": "ForCausalLM",
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
}


class RMSNorm(nn.RMSNorm):
    """The normalisation of Llama: in float32 whatever the type, rounded before the weights."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., C]."""
        wide = x.float()
        assert self.eps is not None
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def build(
    config: Config,
    kind: Kind,
    tied: bool,
    *,
    biases: tuple[bool, bool] | None = None,
    mlp_bias: bool | None = False,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    qk_norm: bool = False,
) -> Model:
    """A decoder of a config, with the head of that kind.

    Args:
        config, kind, tied: as for all families.
        biases: whether the maps to queries, keys and values have one, and that of the output; None
            for what the config says.
        mlp_bias: whether those of the feed-forward nets do; None for what the config says.
        kv_heads: key heads where the config does not name them; by default as many as heads.
        head_dim: width of a head where the config does not name it; by default what divides.
        qk_norm: whether queries and keys are normalised.
    """
    dim, depth = config.size("hidden_size"), config.size("num_hidden_layers")
    num_heads = config.size("num_attention_heads")
    width = config.get("head_dim", head_dim) or dim // config.heads(dim, "num_attention_heads")
    stated = "num_key_value_heads" in config.values or kv_heads is None
    groups = config.get("num_key_value_heads", num_heads) if stated else kv_heads
    eps, dropout = config.get("rms_norm_eps", 1e-6), config.get("attention_dropout", 0.0)
    own = bool(config.get("attention_bias", False))
    qkv_bias, out_bias = (own, own) if biases is None else biases
    bias = bool(config.get("mlp_bias", False)) if mlp_bias is None else mlp_bias
    act, hidden_dim = config.activation("hidden_act", "silu"), config.size("intermediate_size")
    norm = partial(RMSNorm, eps=eps)

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(
            dim,
            num_heads,
            num_kv_heads=groups,
            head_dim=width,
            bias=qkv_bias,
            out_bias=out_bias,
            qk_norm=norm if qk_norm else None,
            dropout=dropout,
        )

    embedding = Embedding(nn.Embedding(config.size("vocab_size"), dim))
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=norm,
        attention=attention,
        mlp=lambda _: GatedFeedForward(dim, hidden_dim, activation=act, bias=bias),
        position_encoding=rotary(config, width),
    )
    last = config.get("classifier_dropout", config.get("hidden_dropout", 0.1))
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, last)
    return Model(embedding, transformer, head, adjacency=adjacency(config, depth))


def rotary(config: Config, width: int) -> Rotary:
    """The rotary positions of a config, of its old form or its new one.

    Raises ValueError for a kind of scaling that is not known.
    """
    given: dict[str, Any] = config.get("rope_scaling", None) or config.get("rope_parameters", {})
    origin = f"{config.origin}, in its settings of rotary positions,"
    if any(isinstance(value, dict) for value in given.values()):
        raise ValueError(f"{origin} has others for other layers, which this library cannot do.")
    rope = Config({**config.values, **given}, origin)
    base = rope.get("rope_theta", 10_000.0)
    rope.demand(1.0, "partial_rotary_factor", accepted=(1,))
    kind = given.get("rope_type", given.get("type", "default"))
    Config({"rope_type": kind}, origin).demand(
        "default", "rope_type", accepted=("linear", "llama3")
    )
    if kind == "default":
        return Rotary(width, base=base)
    if kind == "linear":
        return Rotary(width, base=base, scaling={"factor": rope.need("factor")})
    names = ("factor", "low_freq_factor", "high_freq_factor")
    scaling = {name: rope.need(name) for name in names}
    length = "original_max_position_embeddings"
    scaling[length] = config.get(length, rope.need(length, "max_position_embeddings"))
    return Rotary(width, base=base, scaling=scaling)


def adjacency(config: Config, depth: int) -> Pattern | Sequence[Pattern]:
    """Who attends to whom: all that came before, or a window of it, in all blocks or some."""
    kind, size = config.values["model_type"], config.values.get("sliding_window", 4096)
    if kind == "mistral":
        return Causal() if size is None else Window(size - 1, causal=True)
    if kind not in ("qwen2", "qwen3") or not config.get("use_sliding_window", False):
        return Causal()
    if size is None:
        return Causal()
    first = config.get("max_window_layers", 28)
    default = ["sliding_attention" if i >= first else "full_attention" for i in range(depth)]
    types = config.get("layer_types", default)
    window = Window(size - 1, causal=True)
    return [window if name == "sliding_attention" else Causal() for name in types]


def family(name: str, eos: int | None, **options: Any) -> Family:
    """One of the families, by what its classes are called in `transformers`."""
    return Family(
        prefix="model",
        build=partial(build, **options),
        trunk=TRUNK,
        heads=HEADS,
        classes={kind: f"{name}{ending}" for kind, ending in NAMES.items()},  # type: ignore[misc]
        known=("layers.#.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
        eos=eos,
    )


LLAMA = family("Llama", 2, mlp_bias=None)
MISTRAL = family("Mistral", 2, biases=(False, False), kv_heads=8)
QWEN2 = family("Qwen2", None, biases=(True, False), kv_heads=32)
QWEN3 = family("Qwen3", None, kv_heads=32, head_dim=128, qk_norm=True)
