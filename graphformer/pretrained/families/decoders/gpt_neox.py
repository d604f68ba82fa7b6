"""GPT-NeoX and Pythia: parallel blocks, and rotary positions of a part of each head."""

from __future__ import annotations

from torch import nn

from graphformer.models import Model
from graphformer.nn import Embedding, FeedForward, MultiHeadAttention, Transformer
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.decoders.gpt2 import decoder_head
from graphformer.pretrained.families.decoders.llama import rotary
from graphformer.pretrained.families.family import Family, Kind

TRUNK = {
    "embedding.features.weight": "embed_in.weight",
    "transformer.blocks.#.norm1.*": "layers.#.input_layernorm.*",
    "transformer.blocks.#.attention.qkv.*": "layers.#.attention.query_key_value.*^H",
    "transformer.blocks.#.attention.out.*": "layers.#.attention.dense.*",
    "transformer.blocks.#.norm2.*": "layers.#.post_attention_layernorm.*",
    "transformer.blocks.#.mlp.0.*": "layers.#.mlp.dense_h_to_4h.*",
    "transformer.blocks.#.mlp.3.*": "layers.#.mlp.dense_4h_to_h.*",
    "transformer.norm.*": "final_layer_norm.*",
}


def build(config: Config, kind: Kind, tied: bool) -> Model:
    """Build GPT-NeoX from a config, with a kind of head; that of tokens is tied or not."""
    dim, eps = config.size("hidden_size"), config.get("layer_norm_eps", 1e-5)
    num_heads = config.num_heads(dim, "num_attention_heads")
    hidden_dim, act = config.size("intermediate_size"), config.activation("hidden_act", "gelu")
    bias, rate = bool(config.get("attention_bias", True)), config.get("attention_dropout", 0.0)
    embedding = Embedding(
        nn.Embedding(config.size("vocab_size"), dim), dropout=config.get("hidden_dropout", 0.0)
    )
    transformer = Transformer(
        dim,
        config.size("num_hidden_layers"),
        num_heads,
        norm=lambda width: nn.LayerNorm(width, eps=eps),
        dropout=config.get("hidden_dropout", 0.0),
        attention=lambda _: MultiHeadAttention(dim, num_heads, bias=bias, dropout=rate),
        mlp=lambda _: FeedForward(dim, hidden_dim, activation=act),
        position_encoding=rotary(config, dim // num_heads, share=config.get("rotary_pct", 0.25)),
        layout="parallel" if config.get("use_parallel_residual", True) else "sequential",
    )
    last = config.get("classifier_dropout", 0.1)
    head = decoder_head(embedding, dim, config.num_labels, kind, tied, last)
    return Model(embedding, transformer, head, adjacency=Causal())


GPT_NEOX = Family(
    prefix="gpt_neox",
    build=build,
    trunk=TRUNK,
    heads={
        "causal_lm": {"head.linear.weight": "lm_head.weight|embed_out.weight"},
        "classification": {"head.linear.weight": "score.weight"},
        "tagging": {"head.linear.*": "classifier.*"},
    },
    architectures={
        "none": "GPTNeoXModel",
        "causal_lm": "GPTNeoXForCausalLM",
        "classification": "GPTNeoXForSequenceClassification",
        "tagging": "GPTNeoXForTokenClassification",
    },
    ignored_keys=(
        "layers.#.attention.bias",
        "layers.#.attention.masked_bias",
        "layers.#.attention.rotary_emb.inv_freq",
    ),
    eos_token_id=2,
)
