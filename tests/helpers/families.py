"""Small configurations of model families, each with its classes in `transformers`, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from helpers.checkpoints import VOCAB


@dataclass(frozen=True)
class Case:
    """A configuration of a family.

    Attributes:
        config: name of the class of the config.
        models: names of the classes of models, with each head.
        sizes: of the config.
        pad: the padding token.
        tolerance: in float64; None to test float32 only.
        padding: side of the padding in `transformers`, or "none" for models that read it.
    """

    config: str
    models: tuple[str, ...]
    sizes: dict[str, Any] = field(default_factory=dict)
    pad: int = 0
    tolerance: float | None = 1e-11
    padding: Literal["right", "left", "none"] = "right"


def encoder(
    name: str,
    heads: tuple[str, ...],
    sizes: dict[str, Any],
    pad: int = 0,
    tolerance: float | None = 1e-11,
) -> Case:
    """A case of a bidirectional encoder."""
    return Case(f"{name}Config", tuple(f"{name}{head}" for head in heads), sizes, pad, tolerance)


ENCODER = {
    "vocab_size": VOCAB,
    "hidden_size": 26,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 19,
    "num_labels": 5,
    "layer_norm_eps": 1e-5,
}
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
ELECTRA = ENCODER | {"type_vocab_size": 2, "embedding_size": 14, "hidden_act": "gelu_new"}

XLM = {
    "vocab_size": VOCAB,
    "emb_dim": 26,
    "n_layers": 3,
    "n_heads": 2,
    "max_position_embeddings": 19,
    "num_labels": 5,
    "pad_token_id": 0,
    "pad_index": 0,
}
XLM_HEADS = ("Model", "WithLMHeadModel", "ForSequenceClassification", "ForTokenClassification")

XLNET = {
    "vocab_size": VOCAB,
    "d_model": 26,
    "n_layer": 3,
    "n_head": 2,
    "d_inner": 37,
    "num_labels": 5,
    "pad_token_id": 0,
}
XLNET_HEADS = (
    "XLNetModel", "XLNetLMHeadModel", "XLNetForSequenceClassification",
    "XLNetForTokenClassification",
)  # fmt: skip
CONVBERT = ENCODER | {"embedding_size": 14, "hidden_size": 24, "num_attention_heads": 4}

ENCODERS: dict[str, Case] = {
    "convbert": Case(
        "ConvBertConfig",
        tuple(f"ConvBert{head}" for head in HEADS),
        CONVBERT | {"conv_kernel_size": 5},
        padding="none",
    ),
    "convbert-groups": Case(
        "ConvBertConfig",
        ("ConvBertModel",),
        CONVBERT | {"num_groups": 2, "intermediate_size": 38, "head_ratio": 8},
        padding="none",
    ),
    "xlnet": Case(
        "XLNetConfig",
        XLNET_HEADS,
        XLNET,
        tolerance=1e-6,  # its sinusoids are in float32
        padding="left",
    ),
    "xlnet-causal": Case(
        "XLNetConfig",
        XLNET_HEADS[:2],
        XLNET | {"attn_type": "uni", "clamp_len": 5, "ff_activation": "relu"},
        tolerance=1e-6,
        padding="none",  # transformers (5.23) cannot run a padded batch of it
    ),
    "electra": encoder("Electra", (*HEADS, "ForPreTraining"), ELECTRA),
    "electra-square": encoder("Electra", HEADS[:2], ELECTRA | {"embedding_size": 26}),
    "camembert": encoder(
        "Camembert", HEADS, ENCODER | {"type_vocab_size": 1, "pad_token_id": 1}, pad=1
    ),
    "xlm-roberta": encoder(
        "XLMRoberta", HEADS, ENCODER | {"type_vocab_size": 1, "pad_token_id": 1}, pad=1
    ),
    "mpnet": encoder("MPNet", HEADS, ENCODER | {"pad_token_id": 1}, pad=1),
    "mpnet-padding": encoder("MPNet", HEADS[:1], ENCODER | {"pad_token_id": 6}, pad=1),
    "xlm": encoder("XLM", XLM_HEADS, XLM, tolerance=1e-6),  # its softmax is in float32
    "xlm-relu": encoder(
        "XLM",
        XLM_HEADS[:2],
        XLM | {"gelu_activation": False, "n_langs": 3, "use_lang_emb": False},
        tolerance=1e-6,
    ),
    "flaubert": encoder("Flaubert", XLM_HEADS, XLM, tolerance=1e-6),
}

DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 53,
    "num_labels": 5,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
NEOX = ("GPTNeoXForCausalLM", "GPTNeoXModel", "GPTNeoXForSequenceClassification",
        "GPTNeoXForTokenClassification")  # fmt: skip
OPT = DECODER | {"ffn_dim": 37}

GEMMA = DECODER | {
    "num_key_value_heads": 2,
    "head_dim": 10,
    "query_pre_attn_scalar": 7,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}

DEEPSEEK = DECODER | {
    "moe_intermediate_size": 11,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 14,
    "q_lora_rank": 7,
    "qk_nope_head_dim": 4,  # an odd one is not supported by transformers
    "qk_rope_head_dim": 6,
    "v_head_dim": 3,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 17,
    "mscale": 0.7,
    "mscale_all_dim": 0.9,
}

DECODERS: dict[str, Case] = {
    "deepseek-v2": Case(
        "DeepseekV2Config",
        ("DeepseekV2ForCausalLM", "DeepseekV2Model", "DeepseekV2ForSequenceClassification"),
        DEEPSEEK | {"routed_scaling_factor": 1.7},
        tolerance=1e-6,  # norms, routers and rotations are computed in float32
    ),
    "deepseek-v2-groups": Case(
        "DeepseekV2Config",
        ("DeepseekV2ForCausalLM",),
        DEEPSEEK
        | {"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 2}
        | {"q_lora_rank": None, "rope_parameters": YARN},
        tolerance=1e-6,
    ),
    "deepseek-v3": Case(
        "DeepseekV3Config",
        ("DeepseekV3ForCausalLM", "DeepseekV3Model", "DeepseekV3ForTokenClassification"),
        DEEPSEEK | {"n_group": 3, "topk_group": 2, "rope_parameters": YARN},
        tolerance=1e-6,
    ),
    "deepseek-v3-plain": Case(
        "DeepseekV3Config",
        ("DeepseekV3ForCausalLM",),
        DEEPSEEK
        | {"n_group": 2, "topk_group": 2, "rope_interleave": False, "norm_topk_prob": False}
        | {"q_lora_rank": None, "n_shared_experts": 1},
        tolerance=1e-6,
    ),
    "opt": Case("OPTConfig", ("OPTForCausalLM", "OPTModel", "OPTForSequenceClassification"), OPT),
    "opt-post-norm": Case(
        "OPTConfig",
        ("OPTForCausalLM",),
        OPT | {"do_layer_norm_before": False, "enable_bias": False, "tie_word_embeddings": False},
    ),
    "opt-narrow": Case(
        "OPTConfig",
        ("OPTForCausalLM", "OPTModel", "OPTForSequenceClassification"),
        OPT | {"word_embed_proj_dim": 5},
    ),
    "opt-narrow-post-norm": Case(
        "OPTConfig",
        ("OPTForCausalLM", "OPTModel"),
        OPT | {"word_embed_proj_dim": 5, "do_layer_norm_before": False},
    ),
    "gpt-neox": Case("GPTNeoXConfig", NEOX, DECODER),
    "gpt-neox-sequential": Case(
        "GPTNeoXConfig",
        NEOX[:1],
        DECODER
        | {"use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_new"}
        | {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 500.0,
                "partial_rotary_factor": 0.5,
            }
        },
    ),
    "llama-yarn": Case(
        "LlamaConfig",
        ("LlamaForCausalLM",),
        DECODER
        | {"num_key_value_heads": 1}
        | {"rope_parameters": {k: v for k, v in YARN.items() if "mscale" not in k}},
        tolerance=1e-6,  # norms are computed in float32
    ),
    "phi": Case(
        "PhiConfig",
        ("PhiForCausalLM", "PhiModel", "PhiForSequenceClassification", "PhiForTokenClassification"),
        DECODER,
    ),
    "phi-grouped": Case(
        "PhiConfig",
        ("PhiForCausalLM",),
        DECODER | {"num_attention_heads": 4, "num_key_value_heads": 2, "qk_layernorm": True},
    ),
    "gemma": Case(
        "GemmaConfig",
        ("GemmaForCausalLM", "GemmaModel", "GemmaForSequenceClassification"),
        DECODER | {"num_key_value_heads": 1, "head_dim": 10, "hidden_act": "gelu_new"},
        tolerance=1e-6,  # norms are computed in float32
    ),
    "gemma2": Case(
        "Gemma2Config",
        ("Gemma2ForCausalLM", "Gemma2Model", "Gemma2ForSequenceClassification"),
        GEMMA | {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
        tolerance=None,  # padding makes NaN in transformers (5.23)
    ),
    "gemma2-capped": Case(
        "Gemma2Config",
        ("Gemma2ForCausalLM", "Gemma2Model", "Gemma2ForSequenceClassification"),
        GEMMA
        | {"attn_logit_softcapping": 0.7, "final_logit_softcapping": 3.0}
        | {"attn_implementation": "eager"},  # other implementations leave the bound out
        tolerance=1e-6,  # norms are computed in float32
        padding="none",  # in float64 transformers has NaN for padded texts and windows
    ),
    "gemma3": Case(
        "Gemma3TextConfig",
        ("Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3TextForSequenceClassification"),
        GEMMA,
        tolerance=1e-6,  # norms are computed in float32
    ),
    "gemma3-scaled": Case(
        "Gemma3TextConfig",
        ("Gemma3ForCausalLM",),
        GEMMA
        | {
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window": 4,
            "layer_types": ["full_attention"] * 3,
        },
        tolerance=1e-6,  # norms are computed in float32
    ),
    "phi3": Case(
        "Phi3Config",
        ("Phi3ForCausalLM", "Phi3Model", "Phi3ForSequenceClassification"),
        DECODER | {"num_key_value_heads": 1, "sliding_window": 4},
    ),
    "mixtral": Case(
        "MixtralConfig",
        ("MixtralForCausalLM", "MixtralModel"),
        DECODER | {"num_key_value_heads": 1, "num_local_experts": 5},
    ),
    "mixtral-windows": Case(
        "MixtralConfig",
        ("MixtralForCausalLM",),
        DECODER | {"num_local_experts": 3, "sliding_window": 4, "num_key_value_heads": 2},
    ),
    "mixtral-one": Case(
        "MixtralConfig",
        ("MixtralForCausalLM",),
        DECODER | {"num_local_experts": 3, "num_experts_per_tok": 1, "num_key_value_heads": 2},
    ),
}
"""The first model of each has a language modeling head."""

T5 = {
    "vocab_size": VOCAB,
    "d_model": 26,
    "d_kv": 11,
    "d_ff": 37,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 13,
    "eos_token_id": None,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
}
BART = {
    "vocab_size": VOCAB,
    "d_model": 26,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 13,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 41,
    "max_position_embeddings": 53,
    "bos_token_id": None,
    "eos_token_id": None,
    "forced_eos_token_id": None,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
}
PAIRS = ("ForConditionalGeneration", "Model")

SEQ2SEQ: dict[str, Case] = {
    "t5": encoder("T5", (*PAIRS, "EncoderModel"), T5),
    "t5-v1.1": encoder(
        "T5", PAIRS, T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    ),
    "mt5": encoder("MT5", (*PAIRS, "EncoderModel"), T5 | {"feed_forward_proj": "gated-silu"}),
    "bart": encoder("Bart", PAIRS, BART),
    "mbart": encoder("MBart", PAIRS, BART | {"scale_embedding": True}),
}
"""The first model of each has a language modeling head."""
