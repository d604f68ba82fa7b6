"""Recurrent baselines against torch's cells and the equations of attention."""

from __future__ import annotations

import pytest
import torch
from helpers.generation import randomize
from torch.nn import functional as F

import graphformer as gf
from graphformer import models
from graphformer.batch_type import Batch
from graphformer.data import pack_tokens
from graphformer.models.text.recurrent import run_layers

VOCAB, LENGTHS, SOURCES = 11, (5, 3, 7), (2, 7, 3)


def pairs(lengths=LENGTHS, sources=SOURCES) -> Batch:
    generator = torch.Generator().manual_seed(3)
    rows = [
        torch.randint(VOCAB, (sum(n),), generator=generator).split(n) for n in (lengths, sources)
    ]
    batch = pack_tokens(rows[0])
    batch.source, batch.source_lengths = torch.cat(rows[1]), sources
    return batch


def test_a_language_model_is_torchs_layers():
    model, data = randomize(models.recurrent_language_model(VOCAB, 13, cell="gru")), pairs()
    for part, x in zip(model(data).split(LENGTHS), data.x.split(LENGTHS), strict=True):
        states, _ = model.layers(model.tokens(x).unsqueeze(0))
        torch.testing.assert_close(part, model.head.linear(states.squeeze(0)))


def test_equal_and_ragged_lengths_give_the_same():
    torch.manual_seed(3)
    layers, x = torch.nn.LSTM(5, 7, batch_first=True), torch.randn(12, 5)
    both = run_layers(layers, x, (4, 4, 4))
    alone = torch.cat([run_layers(layers, part, (4,)) for part in x.split(4)])
    torch.testing.assert_close(both, alone)
    ragged = run_layers(layers, x, (4, 3, 5))
    torch.testing.assert_close(ragged[:4], both[:4])


def test_an_empty_sample():
    model = models.recurrent_language_model(VOCAB, 13)
    with pytest.raises(ValueError, match="lengths: got an empty sample, expected at least one"):
        model(pack_tokens([[3], []]))


def test_tied_weights():
    tied, free = (models.recurrent_language_model(VOCAB, 13, tied=t) for t in (True, False))
    assert tied.head.linear.weight is tied.tokens.weight
    assert free.head.linear.weight is not free.tokens.weight


def equations(model, data):
    """Logits of one sample by the equations of Bahdanau et al., with a GRU or an LSTM."""
    decoder = model.decoder
    nodes = model.encoder(model.tokens(data.source).unsqueeze(0))[0].squeeze(0)
    hidden, rows = decoder.first(nodes.mean(0)).tanh(), []
    cell = torch.zeros_like(hidden)
    for token in data.x:
        scores = F.leaky_relu(decoder.query(hidden) + decoder.key(nodes), 0.2) @ decoder.score[0]
        context = scores.softmax(0) @ nodes
        y = torch.cat([model.tokens(token), context]).unsqueeze(0)
        if isinstance(decoder.cell, torch.nn.LSTMCell):
            hidden, cell = (s[0] for s in decoder.cell(y, (hidden[None], cell[None])))
        else:
            hidden = decoder.cell(y, hidden.unsqueeze(0)).squeeze(0)
        rows.append(model.head.linear(torch.cat([hidden, context])))
    return torch.stack(rows)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_attention_is_its_equations(cell):
    model = randomize(models.recurrent_seq2seq(VOCAB, 13, cell=cell))
    data = pairs((5,), (7,))
    torch.testing.assert_close(model(data), equations(model, data))


def test_attention_weights_by_sample():
    model, data = randomize(models.recurrent_seq2seq(VOCAB, 13)), pairs()
    source = run_layers(model.encoder, model.tokens(data.source), SOURCES)
    weights: list[torch.Tensor] = []
    model.decoder(model.tokens(data.x), LENGTHS, source, SOURCES, weights=weights)
    assert [tuple(w.shape) for w in weights] == [(5, 2), (3, 7), (7, 3)]
    for w in weights:
        torch.testing.assert_close(w.sum(1), torch.ones(len(w), dtype=torch.float64))
    assert not any(w.requires_grad for w in weights)


def test_the_adjacency_is_ignored():
    model, data = randomize(models.recurrent_seq2seq(VOCAB, 13)), pairs()
    assert torch.equal(model(data), model(data, gf.causal(LENGTHS)))
