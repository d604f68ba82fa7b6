"""The trunk of text models: options, norms, heads, and the typed sets of options."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from torch import nn

from graphformer.models.text import trunk
from graphformer.models.text.trunk import (
    BertOptions,
    CommonOptions,
    EncoderOptions,
    LlamaOptions,
    Seq2SeqOptions,
    TrunkOptions,
    WordOptions,
    encoder_trunk,
    make_norm,
    text_trunk,
    token_embedding,
    token_head,
)
from graphformer.nn import FeedForward

ALL = set(signature(text_trunk).parameters) - {"vocab_size"}
ENCODER = {"max_length", "num_token_types", "norm_first", "norm_eps", "embedding_norm",
           "bidirectional"}  # fmt: skip


def test_typed_options_are_the_arguments():
    """A new argument of `text_trunk` must be in the sets of options, or builders refuse it."""
    assert set(TrunkOptions.__annotations__) == ALL
    assert set(BertOptions.__annotations__) == ALL
    assert set(EncoderOptions.__annotations__) == ALL - ENCODER
    own = {"positions", "norm", "norm_eps", "gated", "bias"}
    assert set(LlamaOptions.__annotations__) == ALL - own
    assert set(WordOptions.__annotations__) == ALL - {"dim"}
    sides = {"dim", "depth", "bidirectional", "source_dim", "layout", "gated_cross_attention"}
    assert set(Seq2SeqOptions.__annotations__) == ALL - sides
    assert set(CommonOptions.__annotations__) < ALL


@pytest.mark.parametrize(("name", "kind"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
def test_norms(name, kind):
    norm = make_norm(name, 1e-3)(7)
    assert isinstance(norm, kind)
    assert norm.eps == 1e-3
    assert norm.weight.shape == (7,)


@pytest.mark.parametrize("activation", trunk.ACTIVATIONS)
def test_activations_by_name(activation):
    _, transformer = text_trunk(11, 12, 1, 2, activation=activation)
    mlp = transformer.blocks[0].mlp
    assert isinstance(mlp, FeedForward)
    x = torch.linspace(-3, 3, 7)
    expected = trunk.ACTIVATIONS[activation]()(x)
    assert any(torch.equal(module(x), expected) for module in mlp if not list(module.parameters()))


def test_biases():
    _, transformer = text_trunk(11, 12, 1, 2, bias=False, qkv_bias=True)
    attention = transformer.blocks[0].attention
    assert attention.qkv.bias is not None
    assert attention.out.bias is None


def test_the_encoder_has_the_parts_of_bert():
    embedding, transformer = encoder_trunk(11, dim=12, depth=1, num_heads=2)
    assert embedding.types.num_embeddings == 2
    assert embedding.positions.max_length == 512
    assert embedding.norm.eps == 1e-12
    assert isinstance(transformer.norm, nn.Identity), "post-norm"


@pytest.mark.parametrize("tied", [True, False])
def test_the_token_head(tied: bool):
    embedding, _ = text_trunk(11, 12, 1, 2)
    head = token_head(embedding, tied=tied, bias=True)
    assert head.linear.weight.shape == (11, 12)
    assert head.linear.bias.shape == (11,)
    assert (head.linear.weight is token_embedding(embedding).weight) == tied
