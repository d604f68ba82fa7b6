"""Rules of decoding against tokens that are found by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.generation import PROMPTS, decoder

from graphformer.models.generation.logits_rules import (
    LogitsRules,
    apply_rules,
    follows,
    repeated_ngrams,
)

LOGITS = torch.arange(10.0).view(2, 5)


def allowed(texts, starts, **settings):
    rules = LogitsRules(**{"max_new_tokens": 3, "eos_token_id": [4], **settings})
    out = apply_rules(LOGITS, texts, starts, rules)
    finite = out != -torch.inf
    forced = any("forced" in name for name in settings)
    assert forced or torch.equal(out[finite], LOGITS[finite])
    return [row.nonzero().flatten().tolist() for row in finite]


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({}, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ({"min_length": 2}, [0, 1, 2, 3], [0, 1, 2, 3, 4]),
        ({"min_length": 9, "min_new_tokens": 2}, [0, 1, 2, 3], [0, 1, 2, 3, 4]),
        ({"no_repeat_ngram_size": 1}, [0, 2, 3, 4], [0, 4]),
        ({"no_repeat_ngram_size": 2}, [0, 1, 2, 3, 4], [0, 1, 3, 4]),
        ({"bad_words_ids": [[3], [4], [2, 1, 0]]}, [0, 1, 2, 4], [1, 2, 4]),
        ({"forced_bos_token_id": 3, "min_new_tokens": 1}, [3], [0, 1, 2, 3, 4]),
        ({"forced_eos_token_id": [0, 4]}, [0, 1, 2, 3, 4], [0, 4]),
        ({"suppress_tokens": [0, 99, -1]}, [1, 2, 3, 4], [1, 2, 3, 4]),
        ({"begin_suppress_tokens": [0]}, [1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ({"begin_suppress_tokens": [0], "forced_bos_token_id": 0}, [0], [0, 1, 2, 3, 4]),
    ],
)
def test_tokens_that_may_follow(settings, first, second):
    """Of the second text, two tokens are generated, and the next one is the last."""
    assert allowed([[1], [1, 2, 3, 2, 1]], [1, 3], **settings) == [first, second]


def test_ngrams_and_suffixes():
    assert repeated_ngrams([7, 5, 7, 5, 9, 7, 5], 3) == {7, 9}
    assert repeated_ngrams([7, 5], 3) == set()
    assert follows([7, 5], [5])
    assert follows([7], [])
    assert not follows([5], [7, 5])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"min_length": -1}, "min_length: got -1, expected a whole number"),
        ({"no_repeat_ngram_size": 2.5}, "no_repeat_ngram_size: got 2.5, expected a whole number"),
        ({"min_new_tokens": 9}, "min_new_tokens: got 9, expected a whole number from 0 to max_new"),
        ({"bad_words_ids": [[]]}, "bad_words_ids: got an empty word"),
        ({"forced_bos_token_id": 99}, "forced_bos_token_id: got 99, expected a token id from 0"),
        ({"forced_eos_token_id": [0, -1]}, "forced_eos_token_id: got -1, expected a token id"),
        ({"suppress_tokens": range(99)}, "suppress_tokens: got values that forbid every token"),
    ],
)
def test_wrong_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        decoder().generate([3], max_new_tokens=5, **settings)


def test_sampled_texts_repeat_no_pair():
    texts = decoder().generate(PROMPTS, max_new_tokens=12, seed=0, no_repeat_ngram_size=2)
    for text, prompt in zip(texts, PROMPTS, strict=True):
        pairs = list(itertools.pairwise(text))
        new = pairs[len(prompt) - 1 :]
        assert len(set(new)) == len(new)
        assert not set(new) & set(pairs[: len(prompt) - 1])
