"""BART and mBART: encoder-decoders with learned positions, post-norm and pre-norm."""

from __future__ import annotations

from functools import partial

from torch import nn

from graphformer.models import EncoderDecoder, Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import Embedding, FeedForward, MultiHeadAttention, Positions, Transformer
from graphformer.patterns import Causal
from graphformer.pretrained.config import Config
from graphformer.pretrained.families.family import Family, Kind

OFFSET = 2
"""Rows of the position tables before that of position 0."""


def stack(name: str) -> dict[str, str]:
    """Return the table of the encoder or of the decoder."""
    block, here = f"{name}.layers.#", f"{name}.transformer.blocks.#"
    maps = "{q_proj,k_proj,v_proj}.*"
    last = "norm3" if name == "decoder" else "norm2"
    table = {
        f"{name}.embedding.features.weight": f"shared.weight&{name}.embed_tokens.weight",
        f"{name}.embedding.positions.tables.0.weight": f"{name}.embed_positions.weight",
        f"{name}.embedding.norm.*": f"{name}.layernorm_embedding.*",
        f"{here}.attention.qkv.*": f"{block}.self_attn.{maps}",
        f"{here}.attention.out.*": f"{block}.self_attn.out_proj.*",
        f"{here}.norm1.*": f"{block}.self_attn_layer_norm.*",
        f"{here}.mlp.0.*": f"{block}.fc1.*",
        f"{here}.mlp.3.*": f"{block}.fc2.*",
        f"{here}.{last}.*": f"{block}.final_layer_norm.*",
        f"{name}.transformer.norm.*": f"{name}.layer_norm.*",
    }
    if name == "decoder":
        table |= {
            f"{here}.cross_attention.qkv.*": f"{block}.encoder_attn.{maps}",
            f"{here}.cross_attention.out.*": f"{block}.encoder_attn.out_proj.*",
            f"{here}.norm2.*": f"{block}.encoder_attn_layer_norm.*",
        }
    return table


def trunk(
    config: Config, tokens: nn.Embedding, name: str, *, norm_first: bool
) -> tuple[Embedding, Transformer]:
    """Build the embedding and the Transformer of the "encoder" or the "decoder"."""
    dim = config.size("d_model")
    num_heads = config.num_heads(dim, f"{name}_attention_heads")
    hidden_dim = config.size(f"{name}_ffn_dim")
    act, dropout = config.activation("activation_function", "gelu"), config.get("dropout", 0.1)

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(dim, num_heads, dropout=config.get("attention_dropout", 0.0))

    embedding = Embedding(
        tokens,
        Positions(dim, config.size("max_position_embeddings"), offset=OFFSET),
        norm=nn.LayerNorm(dim),
        dropout=dropout,
        scale=dim**0.5 if config.get("scale_embedding", False) else None,
    )
    transformer = Transformer(
        dim,
        config.size(f"{name}_layers"),
        num_heads,
        norm_first=norm_first,
        dropout=dropout,
        attention=attention,
        mlp=lambda _: FeedForward(
            dim, hidden_dim, activation=act, dropout=config.get("activation_dropout", 0.0)
        ),
        source_dim=dim if name == "decoder" else None,
        cross_attention=attention,
    )
    return embedding, transformer


def build(config: Config, kind: Kind, tied: bool, *, norm_first: bool) -> EncoderDecoder:
    """Build BART from a config, with a kind of head; that of tokens is tied or not."""
    tokens = nn.Embedding(config.size("vocab_size"), config.size("d_model"))
    encoder = Model(*trunk(config, tokens, "encoder", norm_first=norm_first))
    embedding, transformer = trunk(config, tokens, "decoder", norm_first=norm_first)
    head = token_head(embedding, tied=tied) if kind == "seq2seq" else None
    return EncoderDecoder(encoder, Model(embedding, transformer, head, adjacency=Causal()))


def family(name: str, *, norm_first: bool) -> Family:
    """Return the family whose classes in `transformers` start with `name`."""
    return Family(
        prefix="model",
        build=partial(build, norm_first=norm_first),
        trunk={**stack("encoder"), **stack("decoder")},
        heads={"seq2seq": {"decoder.head.linear.weight": "lm_head.weight"}},
        architectures={"none": f"{name}Model", "seq2seq": f"{name}ForConditionalGeneration"},
        zero_keys=("final_logits_bias",),
        tie_word_embeddings=True,
        is_text=False,
        eos_token_id=2,
        start_token="eos_token_id",
    )


BART, MBART = family("Bart", norm_first=False), family("MBart", norm_first=True)
