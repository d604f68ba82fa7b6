"""Phi: parallel blocks with one norm, and rotary positions of a part of each head."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import Embedding, FeedForward, MultiHeadAttention, Transformer
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.decoders.llama import rotary
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "embed_tokens.weight",
    "transformer.blocks.#.norm1.*": "layers.#.input_layernorm.*",
    "transformer.blocks.#.attention.qkv.*": "layers.#.self_attn.{q_proj,k_proj,v_proj}.*",
    "transformer.blocks.#.attention.q_norm.*": "layers.#.self_attn.q_layernorm.*",
    "transformer.blocks.#.attention.k_norm.*": "layers.#.self_attn.k_layernorm.*",
    "transformer.blocks.#.attention.out.*": "layers.#.self_attn.dense.*",
    "transformer.blocks.#.mlp.0.*": "layers.#.mlp.fc1.*",
    "transformer.blocks.#.mlp.3.*": "layers.#.mlp.fc2.*",
    "transformer.norm.*": "final_layernorm.*",
}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build Phi from a config, with a kind of head; a language modeling head is tied or not."""
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-5)
    num_heads = config.num_heads(dim, "num_attention_heads")
    hidden_dim, act = config.size("intermediate_size"), config.activation("hidden_act", "gelu_new")
    width = dim // num_heads

    def norm(size: int) -> nn.Module:
        return nn.LayerNorm(size, eps=eps)

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(
            dim,
            num_heads,
            num_kv_heads=config.get("num_key_value_heads", num_heads),
            qk_norm=norm if config.get("qk_layernorm", False) else None,
            dropout=config.get("attention_dropout", 0.0),
        )

    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), dim), dropout=config.get("embd_pdrop", 0.0)
    )
    transformer = Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=norm,
        dropout=config.get("resid_pdrop", 0.0),
        attention=attention,
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
        position_encoding=rotary(config, width, share=0.5),
        layout="parallel_shared_norm",
    )
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, 0.1)
    if kind == "causal_lm":
        head = token_head(embedding, tied=tied, bias=True)
    return Model(embedding, transformer, head, adjacency=Causal())


PHI = Family(
    prefix="model",
    build=build,
    trunk=TRUNK,
    heads={
        "causal_lm": {"head.linear.*": "lm_head.*"},
        "classification": {"head.linear.weight": "score.weight"},
        "tagging": {"head.linear.*": "score.*"},
    },
    architectures={
        "none": "PhiModel",
        "causal_lm": "PhiForCausalLM",
        "classification": "PhiForSequenceClassification",
        "tagging": "PhiForTokenClassification",
    },
    ignored_keys=("layers.#.self_attn.rotary_emb.inv_freq",),
    eos_token_id=2,
)
