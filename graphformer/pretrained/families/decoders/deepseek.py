"""DeepSeek-V2 and V3: latent attention, and routed and shared experts after the first blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from graphformer.models import Model
from graphformer.nn import (
    Embedding,
    GatedFeedForward,
    GroupedRouter,
    LatentAttention,
    MixtureOfExperts,
    Transformer,
)
from graphformer.nn.norm import RMSNorm
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.decoders.llama import (
    HEADS,
    expert_keys,
    merge_experts,
    mscale,
    rotary,
)
from graphformer.pretrained.families.family import Conversion, Family, Kind

TRUNK = {
    "embedding.features.weight": "embed_tokens.weight",
    "transformer.blocks.#.norm1.weight": "layers.#.input_layernorm.weight",
    "transformer.blocks.#.attention.q.weight": "layers.#.self_attn.q_proj.weight",
    "transformer.blocks.#.attention.q.0.weight": "layers.#.self_attn.q_a_proj.weight",
    "transformer.blocks.#.attention.q.1.weight": "layers.#.self_attn.q_a_layernorm.weight",
    "transformer.blocks.#.attention.q.2.weight": "layers.#.self_attn.q_b_proj.weight",
    "transformer.blocks.#.attention.down.weight": "layers.#.self_attn.kv_a_proj_with_mqa.weight",
    "transformer.blocks.#.attention.norm.weight": "layers.#.self_attn.kv_a_layernorm.weight",
    "transformer.blocks.#.attention.up.weight": "layers.#.self_attn.kv_b_proj.weight",
    "transformer.blocks.#.attention.out.weight": "layers.#.self_attn.o_proj.weight",
    "transformer.blocks.#.norm2.weight": "layers.#.post_attention_layernorm.weight",
    "transformer.blocks.#.mlp.gate_up.*": "layers.#.mlp.{gate_proj,up_proj}.*",
    "transformer.blocks.#.mlp.out.*": "layers.#.mlp.down_proj.*",
    "transformer.blocks.#.mlp.routed.router.weight": "layers.#.mlp.gate.weight",
    "transformer.blocks.#.mlp.routed.router.correction": (
        "layers.#.mlp.gate.e_score_correction_bias"
    ),
    "transformer.blocks.#.mlp.routed.up": "layers.#.mlp.experts.gate_up_proj",
    "transformer.blocks.#.mlp.routed.down": "layers.#.mlp.experts.down_proj",
    "transformer.blocks.#.mlp.shared.gate_up.*": (
        "layers.#.mlp.shared_experts.{gate_proj,up_proj}.*"
    ),
    "transformer.blocks.#.mlp.shared.out.*": "layers.#.mlp.shared_experts.down_proj.*",
    "transformer.norm.weight": "norm.weight",
}


class RoutedAndShared(nn.Module):
    """The sum of routed experts and of a net that all nodes use, x [N, C] -> [N, C].

    Args:
        routed: of which each node uses a few.
        shared: of all nodes; the width is that of all shared experts together.
    """

    def __init__(self, routed: MixtureOfExperts, shared: GatedFeedForward) -> None:
        super().__init__()
        self.routed, self.shared = routed, shared

    def forward(self, x: Tensor) -> Tensor:
        """Return routed(x) + shared(x), [N, C]."""
        return self.routed(x) + self.shared(x)


def build(config: Config, kind: Kind, tied: bool, *, version: int) -> Model:
    """Build DeepSeek-V2 or V3 from a config, with a kind of head."""
    config.check_unset(False, "attention_bias", "mlp_bias")
    config.check_unset(1, "moe_layer_freq")
    dim, depth = config.size("hidden_size"), config.size("num_hidden_layers")
    num_heads = config.size("num_attention_heads")
    width, turned = config.get("qk_nope_head_dim", 128), config.get("qk_rope_head_dim", 64)
    norm = partial(RMSNorm, eps=config.get("rms_norm_eps", 1e-6))
    dense = config.get("first_k_dense_replace", 0 if version == 2 else 3)
    act, hidden_dim = config.activation("hidden_act", "silu"), config.size("intermediate_size")
    query_rank = config.values.get("q_lora_rank", 1536)  # null for uncompressed queries

    def attention(_: int) -> nn.Module:
        return LatentAttention(
            dim,
            num_heads,
            rank=config.get("kv_lora_rank", 512),
            head_dim=width,
            rotary_dim=turned,
            value_dim=config.get("v_head_dim", 128),
            query_rank=query_rank,
            norm=partial(RMSNorm, eps=1e-6),
            scale=(width + turned) ** -0.5 * yarn_scale(config),
            adjacent_pairs=version == 2 or bool(config.get("rope_interleave", True)),
            dropout=config.get("attention_dropout", 0.0),
        )

    def mlp(number: int) -> nn.Module:
        if number < dense:
            return GatedFeedForward(dim, hidden_dim, activation=act, bias=False)
        return experts(config, dim, version)

    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=norm,
        attention=attention,
        mlp=mlp,
        position_encoding=rotary(config, turned),
    )
    embedding = Embedding(nn.Embedding(config.size("vocab_size"), dim))
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, 0.1)
    return Model(embedding, transformer, head, adjacency=Causal())


def experts(config: Config, dim: int, version: int) -> RoutedAndShared:
    """Build the routed and shared experts of a block."""
    count = config.get("n_routed_experts", 64 if version == 2 else 256)
    default = None if version == 2 else 8
    top_k = config.get("num_experts_per_tok", default) or config.size("num_experts_per_tok")
    width = config.get("moe_intermediate_size", 1407 if version == 2 else 2048)
    act, shared = (
        config.activation("hidden_act", "silu"),
        config.get("n_shared_experts", 3 - version),
    )
    router = GroupedRouter(dim, count, top_k, **routing(config, version))
    routed = MixtureOfExperts(
        dim, width, num_experts=count, top_k=top_k, activation=act, router=router
    )
    net = GatedFeedForward(dim, shared * width, activation=act, bias=False)
    return RoutedAndShared(routed, net)


def routing(config: Config, version: int) -> dict[str, Any]:
    """Return the keyword arguments of `GroupedRouter`."""
    scale = config.get("routed_scaling_factor", 1.0 if version == 2 else 2.5)
    if version == 3:
        config.check_unset("sigmoid", "scoring_func")
        config.check_unset("noaux_tc", "topk_method")
        return {
            "scoring": "sigmoid",
            "num_groups": config.get("n_group", 8),
            "top_groups": config.get("topk_group", 4),
            "group_scores": 2,
            "normalize": bool(config.get("norm_topk_prob", True)),
            "scale": scale,
            "correction": True,
        }
    config.check_unset("softmax", "scoring_func")
    config.check_unset("greedy", "topk_method", accepted=("group_limited_greedy",))
    config.check_unset(False, "norm_topk_prob")  # transformers ignores it, DeepSeek's code does not
    if config.get("topk_method", "greedy") == "greedy":
        return {"scale": scale}
    groups = {"num_groups": config.size("n_group"), "top_groups": config.size("topk_group")}
    return {**groups, "scale": scale}


def yarn_scale(config: Config) -> float:
    """Return the factor of the logits that comes with YaRN; 1 without it."""
    settings = config.get("rope_scaling", None) or config.get("rope_parameters", {})
    weight = settings.get("mscale_all_dim", 0)
    if settings.get("rope_type", settings.get("type", "default")) == "default" or not weight:
        return 1.0
    return mscale(settings["factor"], weight) ** 2


def family(name: str, version: int, kinds: dict[Kind, str]) -> Family:
    """Return a family.

    Args:
        name: first part of the names of classes in `transformers`.
        version: 2 or 3.
        kinds: ends of the names, by kind of head.
    """
    return Family(
        prefix="model",
        build=partial(build, version=version),
        trunk=TRUNK,
        heads=HEADS,
        architectures={kind: f"{name}{ending}" for kind, ending in kinds.items()},
        # Block 61 of V3 predicts a second token, in training and speculative decoding only.
        ignored_keys=("layers.#.self_attn.rotary_emb.inv_freq", "layers.61.*"),
        conversion=Conversion(expert_keys, merge_experts, lambda tensors, _: tensors),
        eos_token_id=2 if version == 2 else 1,
    )


KINDS: dict[Kind, str] = {
    "none": "Model",
    "causal_lm": "ForCausalLM",
    "classification": "ForSequenceClassification",
}
DEEPSEEK_V2 = family("DeepseekV2", 2, KINDS)
DEEPSEEK_V3 = family("DeepseekV3", 3, {**KINDS, "tagging": "ForTokenClassification"})
