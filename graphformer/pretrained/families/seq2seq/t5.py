"""T5 and mT5, of version 1.0 and 1.1: encoder-decoders with a bias of relative positions."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from graphformer.models import EncoderDecoder, Model
from graphformer.models.text.trunk import token_head
from graphformer.nn import (
    Embedding,
    FeedForward,
    GatedFeedForward,
    MultiHeadAttention,
    Pooling,
    RelativeBias,
    Transformer,
)
from graphformer.nn.norm import RMSNorm
from graphformer.patterns import Causal, Complete
from graphformer.pretrained.config import ACTIVATIONS, Config
from graphformer.pretrained.families.family import Family, Kind


def stack(name: str) -> dict[str, str]:
    """Return the table of the encoder or of the decoder."""
    block, here, last = f"{name}.block.#.layer", f"{name}.transformer.blocks.#", 1
    table = {
        f"{name}.embedding.features.weight": f"shared.weight|{name}.embed_tokens.weight",
        f"{name}.transformer.relative.buckets.weight": (
            f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ),
        f"{here}.norm1.weight": f"{block}.0.layer_norm.weight",
        f"{here}.norm2.weight": f"{block}.1.layer_norm.weight",
        f"{here}.attention.qkv.weight": f"{block}.0.SelfAttention.{{q,k,v}}.weight",
        f"{here}.attention.out.weight": f"{block}.0.SelfAttention.o.weight",
        f"{name}.transformer.norm.weight": f"{name}.final_layer_norm.weight",
    }
    if name == "decoder":
        last = 2
        table |= {
            f"{here}.cross_attention.qkv.weight": f"{block}.1.EncDecAttention.{{q,k,v}}.weight",
            f"{here}.cross_attention.out.weight": f"{block}.1.EncDecAttention.o.weight",
            f"{here}.norm3.weight": f"{block}.2.layer_norm.weight",
        }
    mlp = f"{block}.{last}.DenseReluDense"
    return table | {
        f"{here}.mlp.0.weight": f"{mlp}.wi.weight",
        f"{here}.mlp.3.weight": f"{mlp}.wo.weight",
        f"{here}.mlp.gate_up.weight": f"{mlp}.{{wi_0,wi_1}}.weight",
        f"{here}.mlp.out.weight": f"{mlp}.wo.weight",
    }


ENCODER = {name.removeprefix("encoder."): key for name, key in stack("encoder").items()}


class Norm(RMSNorm):
    """T5's RMS normalization: the variance in float32, the rest in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [..., C]; [..., C]."""
        assert self.eps is not None
        x = x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(self.weight.dtype)


class Scale(nn.Module):
    """Multiplication by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factor."""
        return x * self.factor


def trunk(
    config: Config, tokens: nn.Embedding, depth: int, *, is_decoder: bool
) -> tuple[Embedding, Transformer]:
    """Build the embedding and the Transformer of the encoder or of the decoder."""
    dim, num_heads = config.size("d_model"), config.size("num_heads")
    width, hidden_dim = config.size("d_kv"), config.size("d_ff")
    dropout = config.get("dropout_rate", 0.1)
    name = config.get("feed_forward_proj", "relu")
    act = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
    if act not in ACTIVATIONS:
        raise ValueError(
            f"{config.origin}: got 'feed_forward_proj': {name!r}, expected one of "
            f"{', '.join(ACTIVATIONS)}, or one of them after 'gated-'"
        )
    net = GatedFeedForward if name.startswith("gated-") else FeedForward

    def attention(_: int) -> nn.Module:
        return MultiHeadAttention(
            dim, num_heads, head_dim=width, bias=False, scale=1.0, dropout=dropout
        )

    transformer = Transformer(
        dim,
        depth,
        num_heads,
        norm=partial(Norm, eps=config.get("layer_norm_epsilon", 1e-6)),
        dropout=dropout,
        attention=attention,
        mlp=lambda _: net(
            dim, hidden_dim, activation=ACTIVATIONS[act], dropout=dropout, bias=False
        ),
        position_encoding=RelativeBias(
            num_heads,
            num_buckets=config.get("relative_attention_num_buckets", 32),
            max_distance=config.get("relative_attention_max_distance", 128),
            bidirectional=not is_decoder,
        ),
        source_dim=dim if is_decoder else None,
        cross_attention=attention,
    )
    return Embedding(tokens, dropout=dropout), transformer


def build(config: Config, kind: Kind, tied: bool, *, scaled: bool) -> EncoderDecoder | Model:
    """Build T5 from a config, with a kind of head; that of tokens is tied or not, scaled or not."""
    tokens = nn.Embedding(config.size("vocab_size"), config.size("d_model"))
    depth = config.size("num_layers")
    encoder_parts = trunk(config, tokens, depth, is_decoder=False)
    if kind in ("encoder", "embedding"):
        pooling = Pooling("mean") if kind == "embedding" else None
        return Model(*encoder_parts, pooling, adjacency=Complete())
    depth = config.get("num_decoder_layers", depth)
    embedding, transformer = trunk(config, tokens, depth, is_decoder=True)
    # Version 1.1 has an untied head and does not scale; newer configs say so themselves.
    if scaled:
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    scale = Scale(tokens.embedding_dim**-0.5) if scaled else None
    head = token_head(embedding, tied=tied, transform=scale) if kind == "seq2seq" else None
    return EncoderDecoder(
        Model(*encoder_parts), Model(embedding, transformer, head, adjacency=Causal())
    )


def family(name: str, *, scaled: bool) -> Family:
    """Return the family whose classes in `transformers` start with `name`.

    Args:
        name: first part of the names.
        scaled: whether the input of the head is scaled, unless a config says otherwise.
    """
    return Family(
        prefix="",
        build=partial(build, scaled=scaled),
        trunk={**stack("encoder"), **stack("decoder")},
        heads={
            "seq2seq": {"decoder.head.linear.weight": "lm_head.weight"},
            "encoder": ENCODER,
            "embedding": ENCODER,
        },
        architectures={
            "none": f"{name}Model",
            "seq2seq": f"{name}ForConditionalGeneration",
            "encoder": f"{name}EncoderModel",
        },
        ignored_keys=("decoder.block.#.layer.1.EncDecAttention.relative_attention_bias.weight",),
        tie_word_embeddings=True,
        eos_token_id=1,
        start_token="pad_token_id",
    )


T5, MT5 = family("T5", scaled=True), family("MT5", scaled=False)
