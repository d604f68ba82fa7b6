"""Encoder-decoders: adjacencies of both sides, and generation from sources."""

from __future__ import annotations

import pytest
import torch
from helpers.generation import PROMPTS, randomize, translator

import graphformer as gf
from graphformer import models, patterns
from graphformer.batch_type import Batch
from graphformer.data import pack_tokens
from graphformer.models.text.seq2seq import encode_source

VOCAB, LENGTHS, SOURCES = 31, (5, 3, 7), (2, 7, 3)
CAUSAL = gf.causal(LENGTHS)


def pairs() -> Batch:
    generator = torch.Generator().manual_seed(3)
    target, source = (
        pack_tokens(torch.randint(VOCAB, (sum(n),), generator=generator).split(n))
        for n in (LENGTHS, SOURCES)
    )
    target.source, target.source_pos, target.source_lengths = source.x, source.pos, SOURCES
    return target


def test_the_source_adjacency_can_be_replaced():
    model, data = translator(), pairs()
    whole = model(data, CAUSAL)
    model.source_adjacency = patterns.Window(1)
    assert not torch.allclose(model(data, CAUSAL), whole)
    model.source_adjacency = patterns.Window(7)
    torch.testing.assert_close(model(data, CAUSAL), whole)


@pytest.mark.parametrize(
    "adjacency",
    [
        patterns.Causal(),
        [patterns.Causal()] * 3,
        CAUSAL.edge_index,
        [CAUSAL, patterns.Causal(), CAUSAL],
    ],
    ids=["pattern", "per-block", "edge_index", "mixed"],
)
def test_forms_of_the_decoders_adjacency(adjacency):
    model, data = translator(), pairs()
    torch.testing.assert_close(model(data, adjacency), model(data, CAUSAL))


def test_the_decoders_own_adjacency_is_the_default():
    model, data = translator(), pairs()
    with pytest.raises(ValueError, match="adjacency: got None"):
        model(data)
    expected = model.generate(
        PROMPTS,
        max_new_tokens=5,
        start_id=0,
        temperature=0,
        adjacency=patterns.Window(1, causal=True),
    )
    model.decoder = model.decoder.with_adjacency(patterns.Window(1, causal=True))
    torch.testing.assert_close(model(data), model(data, gf.window(LENGTHS, 1, causal=True)))
    assert model.generate(PROMPTS, max_new_tokens=5, start_id=0, temperature=0) == expected


def test_encoded_sources_are_those_of_the_encoder():
    model, data = translator(), pairs()
    source = Batch(x=data.source, pos=data.source_pos, lengths=SOURCES)
    expected = model.encoder(source, gf.complete(SOURCES))
    torch.testing.assert_close(model.encode(data), expected)
    torch.testing.assert_close(encode_source(model.encoder, patterns.Complete(), data), expected)


def test_a_source_without_positions():
    model = randomize(models.encoder_decoder(VOCAB, dim=24, depth=1, positions="none"))
    data = pairs()
    expected = model(data, CAUSAL)
    del data.source_pos
    torch.testing.assert_close(model(data, CAUSAL), expected)


def test_generation_from_a_batch():
    model = translator()
    sources = pack_tokens(PROMPTS)
    batch = Batch(source=sources.x, source_pos=sources.pos, source_lengths=sources.lengths)
    options = {"max_new_tokens": 5, "start_id": 0, "seed": 3}
    assert model.generate(batch, **options) == model.generate(PROMPTS, **options)


def test_both_sides_share_an_embedding():
    tied = models.encoder_decoder(VOCAB, dim=12, depth=1, num_heads=2)
    weight = tied.decoder.head.linear.weight
    assert tied.encoder.embedding.features.weight is weight
    assert tied.decoder.embedding.features.weight is weight
    free = models.encoder_decoder(VOCAB, dim=12, depth=1, num_heads=2, tied=False)
    weights = {id(free.encoder.embedding.features.weight), id(free.decoder.head.linear.weight),
               id(free.decoder.embedding.features.weight)}  # fmt: skip
    assert len(weights) == 3
