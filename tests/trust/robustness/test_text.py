"""Typing errors and swapped words."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from graphformer.trust.robustness import swap_words, typos

WORDS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=9)


@given(WORDS, st.integers(0, 99))
def test_every_word_gets_at_most_one_error(words: list[str], seed: int):
    changed = typos(" ".join(words), 1.0, random.Random(seed)).split(" ")
    assert len(changed) == len(words)
    for word, other in zip(words, changed, strict=True):
        assert abs(len(word) - len(other)) <= (len(word) > 1)
        if len(word) == len(other):
            assert Counter(word) == Counter(other)


@given(WORDS, st.integers(0, 99))
def test_swapped_words_move_by_one_place(words: list[str], seed: int):
    numbered = [f"{i}" for i in range(len(words))]
    changed = swap_words(" ".join(numbered), 1.0, random.Random(seed)).split(" ")
    assert sorted(changed) == sorted(numbered)
    assert all(abs(int(word) - i) <= 1 for i, word in enumerate(changed))


def test_a_rate_of_zero_changes_nothing():
    text = "some  words, with two spaces"
    assert typos(text, 0.0, random.Random(0)) == text
    assert swap_words(text, 0.0, random.Random(0)) == text


def test_half_of_many_words_are_changed():
    text = " ".join(f"{i:05}" for i in range(2000))
    changed = swap_words(text, 0.5, random.Random(0)).split(" ")
    moved = sum(int(word) != i for i, word in enumerate(changed))
    assert 0.35 < moved / 2000 < 0.5  # a word that has moved is not moved again
