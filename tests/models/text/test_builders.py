"""Builders of text models: shapes, learning, causality, parts and options."""

from __future__ import annotations

import math
from inspect import signature

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models, patterns
from graphformer.models.text.trunk import text_trunk
from graphformer.nn import (
    GatedFeedForward,
    MixtureOfExperts,
    RelativeBias,
    Rotary,
    weight_std,
)

VOCAB, LENGTHS, SOURCES = 11, (5, 3, 7), (2, 7, 3)
SIZES = {"dim": 12, "depth": 2, "num_heads": 3}


def places(lengths):
    return torch.cat([torch.arange(n) for n in lengths])


def batch(lengths=LENGTHS, seed=3):
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    return Data(
        x=torch.randint(VOCAB, (count,), generator=generator),
        pos=places(lengths),
        lengths=lengths,
        prefix_lengths=(2, 3, 0)[: len(lengths)],
        num_nodes=count,
    )


def pairs():
    both, read = batch(), batch(SOURCES, seed=5)
    both.source, both.source_pos, both.source_lengths = read.x, read.pos, SOURCES
    return both


CAUSAL, COMPLETE = gf.causal(LENGTHS), gf.complete(LENGTHS)
BUILD = {
    **{
        f"language-{positions}": (
            lambda positions=positions: models.language_model(VOCAB, positions=positions, **SIZES),
            batch,
            CAUSAL,
            (15, VOCAB),
        )
        for positions in ("learned", "sinusoidal", "rotary", "alibi", "relative", "none")
    },
    "gpt-2": (
        lambda: models.language_model(VOCAB, activation="gelu_tanh", **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "llama": (
        lambda: models.llama(VOCAB, num_kv_heads=1, head_dim=6, **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "qwen": (
        lambda: models.llama(VOCAB, qkv_bias=True, tied=True, **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "experts": (
        lambda: models.llama(VOCAB, num_experts=5, qk_norm=True, **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "palm": (
        lambda: models.llama(VOCAB, layout="parallel_shared_norm", num_kv_heads=1, **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "glam": (
        lambda: models.language_model(VOCAB, num_experts=5, expert_period=2, **SIZES),
        batch,
        CAUSAL,
        (15, VOCAB),
    ),
    "prefix": (
        lambda: models.language_model(VOCAB, **SIZES),
        batch,
        patterns.Prefix()(batch()),
        (15, VOCAB),
    ),
    "bert": (lambda: models.bert(VOCAB, **SIZES), batch, COMPLETE, (15, VOCAB)),
    "bert-bare": (
        lambda: models.bert(VOCAB, transform=False, num_token_types=0, tied=False, **SIZES),
        batch,
        COMPLETE,
        (15, VOCAB),
    ),
    "classifier": (lambda: models.text_classifier(VOCAB, 3, **SIZES), batch, COMPLETE, (3, 3)),
    "tagger": (
        lambda: models.token_tagger(VOCAB, 7, positions="relative", **SIZES),
        batch,
        COMPLETE,
        (15, 7),
    ),
    "bart": (lambda: models.encoder_decoder(VOCAB, **SIZES), pairs, CAUSAL, (15, VOCAB)),
    "t5": (
        lambda: models.encoder_decoder(
            VOCAB, positions="relative", norm="rms", bias=False, gated=True, tied=False, **SIZES
        ),
        pairs,
        CAUSAL,
        (15, VOCAB),
    ),
    **{
        f"recurrent-{cell}": (
            lambda cell=cell: models.recurrent_language_model(VOCAB, 13, cell=cell),
            batch,
            CAUSAL,
            (15, VOCAB),
        )
        for cell in ("rnn", "gru", "lstm")
    },
    **{
        f"recurrent-seq2seq-{cell}": (
            lambda cell=cell: models.recurrent_seq2seq(VOCAB, 13, cell=cell),
            pairs,
            CAUSAL,
            (15, VOCAB),
        )
        for cell in ("rnn", "gru", "lstm")
    },
}


@pytest.mark.parametrize("name", BUILD)
def test_shapes_and_learning(name):
    build, make, adjacency, shape = BUILD[name]
    torch.manual_seed(5)
    model, data = build(), make()
    model.train()  # with experts' balance, but without dropout
    labels = torch.arange(shape[0]) % shape[1]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(3):
        logits = model(data, adjacency)
        assert logits.shape == shape
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    unused = [n for n, p in model.named_parameters() if p.grad is None and "mlp.up" not in n]
    assert not unused


def draw(model):
    torch.manual_seed(7)
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    return model.double().eval()


def alone(data, number):
    """One sample of a batch of pairs."""
    own = [slice(sum(s[:number]), sum(s[: number + 1])) for s in (LENGTHS, SOURCES)]
    return Data(
        x=data.x[own[0]],
        pos=data.pos[own[0]],
        lengths=LENGTHS[number : number + 1],
        source=data.source[own[1]],
        source_pos=data.source_pos[own[1]],
        source_lengths=SOURCES[number : number + 1],
        prefix_lengths=data.prefix_lengths[number : number + 1],
        num_nodes=LENGTHS[number],
    )


@pytest.mark.parametrize("name", [n for n in BUILD if n != "experts"])
def test_a_packed_batch_is_its_samples(name):
    build, _, adjacency, _ = BUILD[name]
    model, data = draw(build()), pairs()
    rule = gf.causal if adjacency is CAUSAL else gf.complete
    if name == "prefix":
        rule = None
    parts = []
    for number in range(3):
        one = alone(data, number)
        parts.append(model(one, patterns.Prefix()(one) if rule is None else rule(one.lengths)))
    torch.testing.assert_close(model(data, adjacency), torch.cat(parts))


@pytest.mark.parametrize("name", [n for n in BUILD if BUILD[n][2] is CAUSAL])
def test_logits_do_not_depend_on_later_tokens(name):
    build, make, adjacency, _ = BUILD[name]
    model, data = draw(build()), make()
    before = model(data, adjacency)
    data.x[3] = (data.x[3] + 1) % VOCAB  # the fourth of the first five
    after = model(data, adjacency)
    changed = (after - before).abs().sum(-1) > 1e-9
    assert not changed[:3].any()
    assert changed[3:5].all()
    assert not changed[5:].any()


@pytest.mark.parametrize("name", ["bart", "t5", "recurrent-seq2seq-gru"])
def test_answers_depend_on_their_own_source(name):
    build, make, adjacency, _ = BUILD[name]
    model, data = draw(build()), make()
    before = model(data, adjacency)
    data.source[4] = (data.source[4] + 1) % VOCAB  # of the second text
    changed = (model(data, adjacency) - before).abs().sum(-1) > 1e-9
    assert changed.tolist() == [False] * 5 + [True] * 3 + [False] * 7


def test_a_sentence_has_a_vector_of_length_one():
    for pool in ("mean", "cls", "last"):
        model = models.sentence_embedder(VOCAB, pool=pool, **SIZES)
        out = model(batch(), COMPLETE)
        torch.testing.assert_close(out.norm(dim=1), torch.ones(3))


def test_token_types_change_the_output():
    model, data = draw(models.bert(VOCAB, **SIZES)), batch()
    one_text = model(data, COMPLETE)
    data.token_types = torch.zeros(15, dtype=torch.int64)
    torch.testing.assert_close(model(data, COMPLETE), one_text)
    data.token_types[2] = 1
    assert not torch.allclose(model(data, COMPLETE)[:5], one_text[:5])


def test_parts_are_what_their_names_say():
    llama = models.llama(VOCAB, **SIZES)
    assert isinstance(llama.transformer.position_encoding, Rotary)
    assert isinstance(llama.transformer.norm, nn.RMSNorm)
    assert isinstance(llama.transformer.blocks[0].mlp, GatedFeedForward)
    assert isinstance(llama.transformer.blocks[0].mlp.activation, nn.SiLU)
    assert not any(name.endswith("bias") for name, _ in llama.named_parameters())
    assert llama.head.linear.weight is not llama.embedding.features.weight
    bert = models.bert(VOCAB, **SIZES)
    assert isinstance(bert.transformer.norm, nn.Identity)
    assert bert.head.linear.weight is bert.embedding.features.weight
    assert bert.head.linear.bias is not None
    t5 = models.encoder_decoder(VOCAB, positions="relative", decoder_depth=3, **SIZES)
    sides = t5.encoder.transformer, t5.decoder.transformer
    assert [len(side.blocks) for side in sides] == [2, 3]
    assert all(isinstance(side.position_encoding, RelativeBias) for side in sides)
    assert [side.position_encoding.bidirectional for side in sides] == [True, False]
    tokens = t5.encoder.embedding.features
    assert tokens.weight is t5.decoder.embedding.features.weight is t5.decoder.head.linear.weight
    assert len({id(p) for p in t5.parameters()}) == len(list(t5.parameters()))


@pytest.mark.parametrize("options", [{}, {"gated": True}, {"num_experts": 3}])
def test_weights_start_small_and_smaller_where_they_add_up(options):
    model = models.language_model(VOCAB, dim=64, depth=8, num_heads=4, **options)
    for block in model.transformer.blocks:
        mlp = block.mlp
        if isinstance(mlp, MixtureOfExperts):
            first, last = mlp.up, mlp.down
        elif isinstance(mlp, GatedFeedForward):
            first, last = mlp.gate_up.weight, mlp.out.weight
        else:
            first, last = mlp[0].weight, mlp[3].weight
        for weight in (block.attention.out.weight, last):
            assert abs(weight.std().item() - weight_std(64) / math.sqrt(16)) < 1e-3
        for weight in (block.attention.qkv.weight, first):
            assert abs(weight.std().item() - weight_std(64)) < 3e-3


def test_texts_longer_than_the_learned_positions():
    model = models.language_model(VOCAB, max_length=6, **SIZES)
    with pytest.raises(ValueError, match="positions: got 6, expected at most 5"):
        model(batch(), CAUSAL)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (models.language_model, (VOCAB,)),
        (models.llama, (VOCAB,)),
        (models.bert, (VOCAB,)),
        (models.encoder_decoder, (VOCAB,)),
        (models.text_classifier, (VOCAB, 3)),
        (models.token_tagger, (VOCAB, 3)),
        (models.sentence_embedder, (VOCAB,)),
        (models.word_tagger, (VOCAB, 3)),
    ],
)
def test_options(build, arguments):
    name = build.__name__
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected option 'dept': .* 'depth'"):
        build(*arguments, dept=3)
    with pytest.raises(TypeError, match=r"got an unexpected option 'droput': did you mean 'drop"):
        build(*arguments, **SIZES, droput=0.5)
    with pytest.warns(FutureWarning, match="checkpoint .* now called activation_checkpointing"):
        model = build(*arguments, **SIZES, checkpoint=True)
    transformer = getattr(model, "decoder", model).transformer
    assert transformer.activation_checkpointing
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(build, "network")
    defaults = vars(parser.get_defaults().network)
    expected = signature(text_trunk).parameters
    for option in ("num_heads", "dropout", "activation_checkpointing", "rotary_base", "top_k"):
        assert defaults[option] == expected[option].default, "as the command line lists it"


def test_a_word_is_the_sum_of_its_features():
    model = draw(models.word_tagger(VOCAB, 7, **SIZES))
    assert isinstance(model.embedding.features, nn.EmbeddingBag)
    generator = torch.Generator().manual_seed(3)
    data = batch()
    data.x = torch.randint(VOCAB, (15, 5), generator=generator)
    logits = model(data, COMPLETE)
    assert logits.shape == (15, 7)
    order = torch.randperm(5, generator=generator)
    shuffled = batch()
    shuffled.x = data.x[:, order]
    torch.testing.assert_close(model(shuffled, COMPLETE), logits)
    nodes = model.embedding.features.weight[data.x].sum(1) + model.embedding.positions(data.pos)
    expected = model.head(model.transformer(nodes, COMPLETE, data.pos), data)
    torch.testing.assert_close(logits, expected)
    tree = gf.from_edge_index(torch.tensor([[0, 1, 3], [1, 2, 2]]), 15).with_self_loops()
    assert not torch.allclose(model(data, tree), logits)


def test_parallel_blocks_with_multi_query_heads_and_gates():
    model = models.llama(VOCAB, layout="parallel_shared_norm", num_kv_heads=1, **SIZES)
    block = model.transformer.blocks[0]
    assert block.norm2 is None
    assert block.attention.heads[1:] == [1, 1]
    assert isinstance(block.mlp, GatedFeedForward)
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    x, rotary = torch.randn(15, block.mlp.out.out_features), model.transformer.position_encoding
    options, h = rotary(None, CAUSAL), block.norm1(x)
    expected = x + block.attention(h, CAUSAL, **options) + block.mlp(h)
    torch.testing.assert_close(block(x, CAUSAL, **options), expected)


def test_experts_in_every_second_block():
    model = models.llama(VOCAB, num_experts=3, expert_period=2, **{**SIZES, "depth": 5})
    has_experts = [isinstance(b.mlp, MixtureOfExperts) for b in model.transformer.blocks]
    assert has_experts == [False, True, False, True, False]
    with pytest.raises(ValueError, match="expert_period: got 0, expected at least 1"):
        models.llama(VOCAB, num_experts=3, expert_period=0, **SIZES)


def test_dense_and_banded_blocks_alternate():
    model = draw(models.language_model(VOCAB, **{**SIZES, "depth": 4}))
    bands = patterns.Window(2, causal=True)
    alternating = patterns.PerLayer((patterns.Causal(), bands), repeat=2)
    assert alternating == patterns.PerLayer((patterns.Causal(), bands) * 2)
    each = [patterns.Causal(), bands, patterns.Causal(), bands]
    torch.testing.assert_close(model(batch(), alternating), model(batch(), each))
    with pytest.raises(ValueError, match="repeat: got 0, expected at least 1"):
        patterns.PerLayer((bands,), repeat=0)


def test_a_post_norm_block_has_one_layout():
    with pytest.raises(ValueError, match="layout: got 'parallel' for a post-norm block"):
        models.language_model(VOCAB, layout="parallel", norm_first=False, **SIZES)
