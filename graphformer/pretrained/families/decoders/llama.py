"""Llama and models of its architecture: SmolLM, Mistral, Mixtral, Phi 3, Qwen2 and Qwen3."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict, Unpack

from graphformer.models import Model
from graphformer.nn import (
    Embedding,
    GatedFeedForward,
    MixtureOfExperts,
    MultiHeadAttention,
    Rotary,
    Transformer,
)
from graphformer.nn.norm import RMSNorm
from graphformer.patterns import Causal, Pattern, Window
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.family import Conversion, Family, Kind

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
FUSED = {
    "transformer.blocks.#.attention.qkv.*": "layers.#.self_attn.qkv_proj.*",
    "transformer.blocks.#.mlp.gate_up.*": "layers.#.mlp.gate_up_proj.*",
}
"""Keys of Phi 3, which stores several maps as one."""
EXPERTS = {
    "transformer.blocks.#.mlp.router.weight": (
        "layers.#.mlp.gate.weight|layers.#.block_sparse_moe.gate.weight"
    ),
    "transformer.blocks.#.mlp.up": "layers.#.mlp.experts.gate_up_proj",
    "transformer.blocks.#.mlp.down": "layers.#.mlp.experts.down_proj",
}
"""The feed-forward nets of Mixtral."""
EXPERT_KEY = re.compile(
    r"layers\.(\d+)\.(?:block_sparse_moe|mlp)\.experts\.(\d+)\."
    r"(w1|w2|w3|gate_proj|down_proj|up_proj)\.weight"
)
EXPERT_PARTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
"""Names of Mixtral's maps in other families."""
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
    experts: bool = False,
    eps: float = 1e-6,
    base: float = 10_000.0,
) -> Model:
    """Build a decoder from a config, with a kind of head.

    Args:
        config: of the checkpoint.
        kind: of the head.
        tied: whether a language modeling head shares the embedding's weight.
        biases: whether the query, key and value projections have a bias, and whether the output
            projection has; None for the settings of the config.
        mlp_bias: whether the feed-forward networks have biases; None for the setting of the config.
        kv_heads: number of key and value heads if the config has no such setting; by default the
            number of heads.
        head_dim: width of a head if the config has no such setting; by default the width divided
            by the number of heads.
        qk_norm: whether queries and keys are normalized per head.
        experts: whether the feed-forward nets are mixtures of experts.
        eps: of the normalizations if the config has no such setting.
        base: of the rotary positions if the config has no such setting.
    """
    dim, depth = config.size("hidden_size"), config.size("num_hidden_layers")
    num_heads = config.size("num_attention_heads")
    width = config.get("head_dim", head_dim) or dim // config.num_heads(dim, "num_attention_heads")
    stated = "num_key_value_heads" in config.values or kv_heads is None
    groups = config.get("num_key_value_heads", num_heads) if stated else kv_heads
    eps = config.get("rms_norm_eps", eps)
    dropout = config.get("attention_dropout", 0.0)
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

    def mlp(_: int) -> nn.Module:
        if not experts:
            return GatedFeedForward(dim, hidden_dim, activation=act, bias=bias)
        return MixtureOfExperts(
            dim,
            hidden_dim,
            num_experts=config.get("num_local_experts", 8),
            top_k=config.get("num_experts_per_tok", 2),
            activation=act,
            normalize=True,
        )

    embedding = Embedding(nn.Embedding(config.size("vocab_size"), dim))
    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=norm,
        attention=attention,
        mlp=mlp,
        position_encoding=rotary(config, width, base=base),
    )
    last = config.get("classifier_dropout", config.get("hidden_dropout", 0.1))
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, last)
    return Model(embedding, transformer, head, adjacency=adjacency(config, depth))


def rotary(
    config: Config, width: int, *, share: float | None = None, base: float = 10_000.0
) -> Rotary:
    """Build rotary positions from a config with `rope_scaling` or, newer, `rope_parameters`.

    Args:
        config: of the checkpoint.
        width: of a head.
        share: of a head that is rotated if the config has no `partial_rotary_factor`; None for
            families that rotate whole heads.
        base: if the config has no such setting.

    Raises:
        ValueError: when the kind of scaling is not supported, or layers differ.
    """
    settings: dict[str, Any] = config.get("rope_scaling", None) or config.get("rope_parameters", {})
    origin = f"{config.origin}, rotary positions"
    if any(isinstance(value, dict) for value in settings.values()):
        raise ValueError(f"{origin}: got settings by layer type, expected the same for all layers")
    rope = Config({**config.values, **settings}, origin)
    base = rope.get("rope_theta", rope.get("rotary_emb_base", base))
    if share is None:
        rope.check_unset(1.0, "partial_rotary_factor", accepted=(1,))
    else:
        part = float(rope.get("partial_rotary_factor", share))
        rotated = int(width * part)
        if rotated < 2 or rotated % 2:
            raise ValueError(
                f"{origin}: got 'partial_rotary_factor': {part} of heads of the width {width}, "
                "expected an even number of rotated dimensions"
            )
        width = rotated
    kind = settings.get("rope_type", settings.get("type", "default"))
    # In Phi 3, transformers reads "yarn" as another name of "longrope".
    scaled = () if config.values.get("model_type") == "phi3" else ("linear", "llama3", "yarn")
    Config({"rope_type": kind}, origin).check_unset("default", "rope_type", accepted=scaled)
    if kind == "default":
        return Rotary(width, base=base)
    if kind == "linear":
        return Rotary(width, base=base, scaling={"factor": rope.require("factor")})
    length = "original_max_position_embeddings"
    context = {length: config.get(length, rope.require(length, "max_position_embeddings"))}
    if kind == "yarn":
        names = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
        scaling = {name: rope.get(name, default) for name, default in names.items()} | context
        scaling["factor"] = rope.require("factor")
        return Rotary(width, base=base, scaling=scaling, magnitude=yarn_magnitude(rope))
    required = ("factor", "low_freq_factor", "high_freq_factor")
    scaling = {name: rope.require(name) for name in required} | context
    return Rotary(width, base=base, scaling=scaling)


def yarn_magnitude(rope: Config) -> float:
    """Return the factor of cosines and sines of YaRN: that of the settings, or by the factor."""
    if rope.values.get("attention_factor") is not None:
        return float(rope.values["attention_factor"])
    own, other = rope.values.get("mscale"), rope.values.get("mscale_all_dim")
    if own and other:
        return mscale(rope.require("factor"), own) / mscale(rope.require("factor"), other)
    return mscale(rope.require("factor"))


def mscale(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's 0.1 w ln(factor) + 1, for factors above 1.

    Source: Peng et al., 2023, "YaRN", section 3.4.
    """
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def adjacency(config: Config, depth: int) -> Pattern | Sequence[Pattern]:
    """Return the causal pattern of a config, or one per block; windows in all or some blocks."""
    kind, size = config.values["model_type"], config.values.get("sliding_window", 4096)
    if kind in ("mixtral", "phi3"):
        size = config.values.get("sliding_window")
    if kind in ("mistral", "mixtral", "phi3"):
        return Causal() if size is None else Window(size - 1, causal=True)
    if kind not in ("qwen2", "qwen3") or not config.get("use_sliding_window", False):
        return Causal()
    if size is None:
        return Causal()
    first = config.get("max_window_layers", 28)
    types = layer_types(config, [i >= first for i in range(depth)])
    window = Window(size - 1, causal=True)
    return [window if name == "sliding_attention" else Causal() for name in types]


def layer_types(config: Config, default: list[bool]) -> list[str]:
    """Return "full_attention" or "sliding_attention" for each block.

    Args:
        config: of the checkpoint.
        default: whether each block attends to a window, if the config has no `layer_types`.

    Raises:
        ValueError: when there is another type, or the number of types is not that of blocks.
    """
    names = "full_attention", "sliding_attention"
    types: list[str] = config.get("layer_types", [names[sliding] for sliding in default])
    if len(types) != len(default) or not {*types} <= {*names}:
        raise ValueError(
            f"{config.origin}: got 'layer_types': {types}, expected {len(default)} of {names[0]!r} "
            f"and {names[1]!r}, one for each block; others are not supported"
        )
    return types


class Variant(TypedDict, total=False):
    """Differences between the families, as keyword arguments of `build`."""

    biases: tuple[bool, bool] | None
    mlp_bias: bool | None
    kv_heads: int | None
    head_dim: int | None
    qk_norm: bool
    experts: bool
    eps: float
    base: float


def expert_keys(keys: Collection[str]) -> list[str]:
    """Return the keys of weights that are stored expert by expert, as in files of Mixtral."""
    return [key for key in keys if EXPERT_KEY.fullmatch(key)]


def merge_experts(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of all experts of a block as one tensor each, by key."""
    parts: dict[tuple[int, str], dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        match = EXPERT_KEY.fullmatch(key)
        assert match is not None
        block, expert, name = int(match[1]), int(match[2]), match[3]
        parts.setdefault((block, EXPERT_PARTS.get(name, name)), {})[expert] = tensor
    merged = {}
    for block in {block for block, _ in parts}:
        gate, down, up = (
            torch.stack([tensor for _, tensor in sorted(parts[block, name].items())])
            for name in ("gate_proj", "down_proj", "up_proj")
        )
        merged[f"layers.{block}.mlp.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
        merged[f"layers.{block}.mlp.experts.down_proj"] = down
    return merged


def family(name: str, eos: int | None, **variant: Unpack[Variant]) -> Family:
    """Return a family whose classes in `transformers` start with `name`.

    Args:
        name: first part of the names.
        eos: the token that ends a text if the config names none.
        variant: keyword arguments of `build`.
    """
    return Family(
        prefix="model",
        build=partial(build, **variant),
        trunk=TRUNK | EXPERTS if variant.get("experts") else TRUNK,
        heads=HEADS,
        architectures={kind: f"{name}{ending}" for kind, ending in NAMES.items()},  # type: ignore[misc]
        ignored_keys=("layers.#.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
        conversion=(
            Conversion(expert_keys, merge_experts, lambda tensors, _: tensors)
            if variant.get("experts")
            else None
        ),
        eos_token_id=eos,
    )


LLAMA = family("Llama", 2, mlp_bias=None)
MISTRAL = family("Mistral", 2, biases=(False, False), kv_heads=8)
MIXTRAL = family("Mixtral", 2, biases=(False, False), kv_heads=8, experts=True, eps=1e-5, base=1e6)
PHI3 = family("Phi3", 32000, biases=(False, False), eps=1e-5)
PHI3 = PHI3._replace(trunk={**PHI3.trunk, **FUSED})
QWEN2 = family("Qwen2", None, biases=(True, False), kv_heads=32)
QWEN3 = family("Qwen3", None, kv_heads=32, head_dim=128, qk_norm=True)
