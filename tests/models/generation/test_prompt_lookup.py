"""Prompt lookup: the same text in fewer steps, and how drafts are proposed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graphformer import models, patterns
from graphformer.models.generation.decoders import CachedDecoder
from graphformer.models.generation.prompt_lookup import (
    MAX_DRAFT,
    MAX_NGRAM,
    MAX_PAUSE,
    MIN_NGRAM,
    PromptLookup,
)

VOCAB = 7  # small, so that texts repeat themselves
WINDOW = patterns.Window(3, causal=True)
PROMPT = [1, 2, 3, 4, 1, 2, 3, 5, 1, 2]


def decoder(positions="rotary", **parts):
    torch.manual_seed(5)
    parts = {"dim": 24, "depth": 2, "num_heads": 4, "num_kv_heads": 2, **parts}
    model = models.language_model(VOCAB, positions=positions, **parts)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.double().eval()


@pytest.fixture
def steps(monkeypatch):
    """The number of tokens that each step appends."""
    added, extend = [], CachedDecoder.extend

    def counted(self, tokens):
        added.append(len(tokens))
        return extend(self, tokens)

    monkeypatch.setattr(CachedDecoder, "extend", counted)
    return added


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative", "none"])
@pytest.mark.parametrize(
    "pattern", [patterns.Causal(), WINDOW, [WINDOW, patterns.Causal()]], ids=["all", "3", "both"]
)
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.7, "seed": 3}])
def test_the_text_is_the_same_in_fewer_steps(steps, positions, pattern, options):
    model = decoder(positions, max_length=256)
    options = {"max_new_tokens": 101, "adjacency": pattern, **options}
    text = model.generate(PROMPT, **options)
    assert text == model.generate(PROMPT, prompt_lookup=False, **options)
    assert max(steps) > 1
    if not options["temperature"]:
        assert len(steps) < 60


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3},
        {"eos_token_id": 6, "temperature": 0.9, "seed": 1},
        {"stop": [[2, 2], [3, 1, 4]], "temperature": 0.9, "seed": 2},
        {"top_k": 3, "temperature": 2.0, "seed": 4},
        {"context": 16},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
    ],
)
def test_options_act_as_without_drafts(options):
    model = decoder("learned", max_length=64)
    options = {"max_new_tokens": 47, "temperature": 0, **options}
    expected = model.generate(PROMPT, prompt_lookup=False, **options)
    assert model.generate(PROMPT, **options) == expected
    received = []
    model.generate(PROMPT, stream=lambda number, token: received.append((number, token)), **options)
    assert received == [(0, token) for token in expected[len(PROMPT) :]]
    received.clear()
    stopped = model.generate(
        PROMPT, stream=lambda *_: received.append(0) or len(received) == 5, **options
    )
    assert stopped == expected[: len(PROMPT) + 5]


def test_an_encoder_decoder_uses_drafts_too(steps):
    torch.manual_seed(3)
    model = models.encoder_decoder(VOCAB, dim=24, depth=1, num_heads=4, tied=False)
    model = model.double().eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    options = {"max_new_tokens": 61, "start_id": 0, "temperature": 0}
    assert model.generate(PROMPT, **options) == model.generate(
        PROMPT, prompt_lookup=False, **options
    )
    assert max(steps) > 1


def test_the_draft_is_what_followed_and_repeats_at_the_end():
    lookup = PromptLookup([1, 2, 3, 4, 9, 2, 3])
    assert lookup.propose(5) == [4]
    for _ in range(3):
        lookup.update(1, 1)
    assert lookup.propose(3) == [4, 9, 2]
    assert lookup.propose(7) == [4, 9, 2, 3, 4, 9, 2]  # the last five tokens, again
    assert PromptLookup([1, 2, 3, 4]).propose(5) == []
    assert PromptLookup([]).propose(5) == []
    assert lookup.propose(0) == []


def test_drafts_shrink_to_what_was_accepted():
    lookup = PromptLookup([1, 2, 1, 2])
    for _ in range(5):
        lookup.update(3, 3)
    assert lookup.draft_length == MAX_DRAFT
    lookup.update(2, 7)
    assert lookup.draft_length == 2
    assert lookup.propose(7) == [1, 2], "no pause after a partial success"


def test_rejected_drafts_are_tried_less_and_less():
    lookup, tried = PromptLookup([1, 2] * 3), []
    for step in range(200):
        if draft := lookup.propose(MAX_DRAFT):
            tried.append(step)
            lookup.update(0, len(draft))
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert gaps[0] == 2
    assert gaps == sorted(gaps)
    assert gaps[-1] == MAX_PAUSE + 1


@given(st.lists(st.integers(0, 2), max_size=40))
def test_a_draft_follows_the_longest_match(text):
    draft = PromptLookup(text).propose(1)
    for length in range(min(MAX_NGRAM, len(text)), MIN_NGRAM - 1, -1):
        for start in range(len(text) - length - 1, -1, -1):
            if text[start : start + length] == text[-length:]:
                assert draft == [text[start + length]]
                return
    assert draft == []
