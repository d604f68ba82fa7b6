"""Attention spans of patterns, and the options of generation that follow from a pattern."""

from __future__ import annotations

import pytest
from helpers.generation import PROMPTS, VOCAB, WINDOW, decoder, last_logits

from graphformer import models, patterns
from graphformer.models.generation import decoding_options
from graphformer.models.generation.causal_patterns import attention_span, is_cacheable, per_block

CAUSAL = patterns.Causal()


@pytest.mark.parametrize(
    ("pattern", "span"),
    [
        (CAUSAL, None),
        (patterns.Prefix(), None),
        (WINDOW, 3),
        (WINDOW & patterns.Documents(), 3),
        (CAUSAL & patterns.Documents(), None),
        (patterns.Window(5, causal=True) & WINDOW & CAUSAL, 3),
    ],
)
def test_spans(pattern, span):
    assert attention_span(pattern) == span
    assert is_cacheable(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        patterns.Complete(),
        patterns.Window(2),
        CAUSAL & patterns.Dilated(2, 3),
        patterns.Documents() & patterns.Documents(),
    ],
)
def test_patterns_without_a_span(pattern):
    assert not is_cacheable(pattern)
    with pytest.raises(ValueError, match="adjacency: got .* cannot be decoded with a cache"):
        attention_span(pattern)


def test_options_of_one_pattern_per_block():
    layers = (WINDOW, CAUSAL & patterns.Documents(), CAUSAL)
    model = decoder("learned", max_length=41)
    expected = {"adjacency": layers, "context": 41, "cache": True}
    assert decoding_options(model, patterns.PerLayer(layers)) == expected
    assert per_block(patterns.PerLayer(layers)) == layers
    assert per_block(CAUSAL) is CAUSAL
    options = {"max_new_tokens": 5, "temperature": 0}
    assert models.generate(model, PROMPTS, adjacency=patterns.PerLayer(layers), **options) == (
        models.generate(model, PROMPTS, adjacency=layers, cache=False, **options)
    )


def test_a_sparse_pattern_is_decoded_without_a_cache():
    model, sparse = decoder("learned"), CAUSAL & (patterns.Dilated(2, 3) | patterns.GlobalNodes())
    options = decoding_options(model, sparse)
    assert not options["cache"]
    text = models.generate(model, PROMPTS[4], max_new_tokens=5, temperature=0, **options)
    assert int(last_logits(model, text[:-1], sparse).argmax()) == text[-1]


def test_a_recurrent_network_reads_no_adjacency():
    recurrent = models.recurrent_language_model(VOCAB, 12)
    options = decoding_options(recurrent, patterns.Complete())
    assert options == {"adjacency": patterns.Complete(), "context": None, "cache": False}


@pytest.mark.parametrize("pattern", [patterns.Complete(), CAUSAL | patterns.Dilated(2, 50)])
def test_patterns_with_edges_to_later_tokens(pattern):
    with pytest.raises(ValueError, match="in which tokens attend to later ones, expected a causal"):
        decoding_options(decoder(), pattern)
