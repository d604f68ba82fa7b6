"""What GGUF files name the tensors and sizes of each architecture.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

LLAMA_KEYS = {
    "token_embd": "model.embed_tokens",
    "blk.#.attn_norm": "model.layers.#.input_layernorm",
    "blk.#.attn_q": "model.layers.#.self_attn.q_proj",
    "blk.#.attn_k": "model.layers.#.self_attn.k_proj",
    "blk.#.attn_v": "model.layers.#.self_attn.v_proj",
    "blk.#.attn_q_norm": "model.layers.#.self_attn.q_norm",
    "blk.#.attn_k_norm": "model.layers.#.self_attn.k_norm",
    "blk.#.attn_output": "model.layers.#.self_attn.o_proj",
    "blk.#.ffn_norm": "model.layers.#.post_attention_layernorm",
    "blk.#.ffn_gate": "model.layers.#.mlp.gate_proj",
    "blk.#.ffn_up": "model.layers.#.mlp.up_proj",
    "blk.#.ffn_down": "model.layers.#.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LLAMA_BIASES = {
    "attention_bias": "model.layers.0.self_attn.q_proj",
    "mlp_bias": "model.layers.0.mlp.up_proj",
}
GEMMA3_KEYS = LLAMA_KEYS | {
    "blk.#.post_attention_norm": "model.layers.#.post_attention_layernorm",
    "blk.#.ffn_norm": "model.layers.#.pre_feedforward_layernorm",
    "blk.#.post_ffw_norm": "model.layers.#.post_feedforward_layernorm",
}
GPT2_KEYS = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "blk.#.attn_norm": "transformer.h.#.ln_1",
    "blk.#.attn_qkv": "transformer.h.#.attn.c_attn",
    "blk.#.attn_output": "transformer.h.#.attn.c_proj",
    "blk.#.ffn_norm": "transformer.h.#.ln_2",
    "blk.#.ffn_up": "transformer.h.#.mlp.c_fc",
    "blk.#.ffn_down": "transformer.h.#.mlp.c_proj",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
SIZES = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
    "rope.freq_base_swa": "rope_local_base_freq",
}
GPT2_SIZES = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "block_count": "n_layer",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
"""Names of settings in a GGUF file, without the architecture, and in config.json."""


class Architecture(NamedTuple):
    """How an architecture of llama.cpp is stored.

    Attributes:
        model_type: in `transformers`.
        name: of the class with a language modeling head.
        keys: names of tensors in the file and in `transformers`.
        sizes: names of settings.
        rotates_pairs: whether the rows of queries and keys are in the order of rotated pairs.
        norm_offset: what is added to the weights of norms in the file.
        biases: settings of optional biases, and the map that has one then.
    """

    model_type: str
    name: str
    keys: dict[str, str] = LLAMA_KEYS
    sizes: dict[str, str] = SIZES
    rotates_pairs: bool = False
    norm_offset: float = 0.0
    biases: Mapping[str, str] = MappingProxyType({})


ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", rotates_pairs=True, biases=LLAMA_BIASES),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM"),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM"),
    "gemma": Architecture("gemma", "GemmaForCausalLM", norm_offset=1.0),
    "gemma2": Architecture("gemma2", "Gemma2ForCausalLM", GEMMA3_KEYS, norm_offset=1.0),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", GEMMA3_KEYS, norm_offset=1.0),
    "gpt2": Architecture("gpt2", "GPT2LMHeadModel", GPT2_KEYS, GPT2_SIZES),
}
