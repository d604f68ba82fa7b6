"""Quality, edges, time and memory of a model with other adjacencies."""

from __future__ import annotations

import pytest
import torch

from graphformer import models
from graphformer.cli.tradeoff import MeasuredModel, measure_tradeoff
from graphformer.data import BatchLike, pack_tokens
from graphformer.patterns import (
    Causal,
    Complete,
    GlobalNodes,
    PerHead,
    PerLayer,
    Window,
)


def encoder() -> models.Model:
    torch.manual_seed(0)
    model = models.sentence_embedder(17, dim=12, depth=2, num_heads=3, max_length=64)
    with torch.no_grad():  # at random, attention is almost a mean, and its output small
        for block in model.transformer.blocks:
            block.attention.qkv.weight.mul_(40)
            block.attention.out.weight.mul_(40)
    return model


def batches(size: int) -> list[BatchLike]:
    generator = torch.Generator().manual_seed(2)
    texts = [torch.randint(17, (n,), generator=generator).tolist()[:size] for n in (23, 11, 7)]
    return [pack_tokens(texts[:2]), pack_tokens(texts[2:])]


def test_figures_of_an_encoder():
    subject = MeasuredModel(encoder(), Complete(), None)
    subject.choose_measure(batches(13)[0])
    assert subject.measure == "cosine"
    patterns = {"all": Complete(), "wide": Window(64), "narrow": Window(1)}
    figures = list(measure_tradeoff(subject, patterns, batches, [13, 5], rounds=1))
    assert [(f.pattern, f.length) for f in figures[:3]] == [(n, 13) for n in patterns]
    every, wide, narrow = figures[:3]
    assert every.quality == pytest.approx(1)
    assert wide.quality == pytest.approx(1)
    assert narrow.quality < 0.9999
    assert every.edges == (13**2 + 11**2) / 24
    assert narrow.edges == (3 * 13 - 2 + 3 * 11 - 2) / 24
    assert all(f.milliseconds > 0 and f.memory > 0 for f in figures)


def test_edges_of_heads_and_layers_are_averaged():
    subject = MeasuredModel(encoder(), Complete(), None)
    heads = PerHead((Window(0), Window(0), Window(1)))
    layers = {"layers": PerLayer((Window(0), heads))}
    (figures,) = measure_tradeoff(subject, layers, batches, [13], rounds=1)
    assert figures.edges == pytest.approx((24 + (24 + 24 + 37 + 31) / 3) / 2 / 24)


def test_perplexity_of_a_causal_model_by_its_definition():
    torch.manual_seed(0)
    model = models.language_model(17, dim=12, depth=2, num_heads=3, max_length=64).eval()
    subject = MeasuredModel(model, Causal(), None)
    (batch, _) = batches(23)
    subject.choose_measure(batch)
    assert subject.measure == "perplexity"
    log = model(batch, Causal()).log_softmax(-1)
    terms = [log[i, batch.x[i + 1]] for i in range(batch.num_nodes - 1) if i + 1 != 23]
    expected = torch.stack(terms).mean().neg().exp().item()
    assert subject.quality([batch], Causal(), []) == pytest.approx(expected, rel=1e-5)


def test_no_pattern_shows_a_causal_model_what_follows():
    model = models.language_model(17, dim=12, depth=2, num_heads=3)
    kept = MeasuredModel(model, Causal(), None).restrict(Window(3) | GlobalNodes())
    source, target = kept(batches(23)[0]).edge_index
    assert (source <= target).all()
    assert (source != target).any()


def test_accuracy_counts_right_answers():
    torch.manual_seed(0)
    model = models.text_classifier(17, 5, dim=12, depth=2, num_heads=3)
    made = batches(13)
    answers = torch.cat([model.eval()(b, Complete()).argmax(-1) for b in made]).tolist()
    labels = [answers[0], answers[1], (answers[2] + 1) % 5]
    subject = MeasuredModel(model, Complete(), labels)
    subject.choose_measure(made[0])
    assert subject.quality(made, Complete(), []) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="classes, expected a model"):
        MeasuredModel(model, Complete(), [5, 0, 1]).choose_measure(made[0])
