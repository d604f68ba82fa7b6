from __future__ import annotations

import math

import numpy as np
import pytest

from graphformer.data.text.ngrams.lexicon import NgramMatcher, count_ngrams, ngram_lexicon

ROWS = [np.array([1, 2, 3, 1, 2]), np.array([1, 2]), np.array([3, 3])]
"""Nine tokens: 1, 2 and 3 three times each; six pairs: (1, 2) three times, three others once."""


def lexicon(**limits: float) -> list[tuple[int, ...]]:
    options = {"max_length": 3, "min_count": 1, "min_information": -9.0, "max_ngrams": 99}
    return ngram_lexicon(ROWS, **{**options, **limits})


def test_counts() -> None:
    single, pairs = count_ngrams(ROWS, 2)
    assert single == {(1,): 3, (2,): 3, (3,): 3}
    assert pairs == {(1, 2): 3, (2, 3): 1, (3, 1): 1, (3, 3): 1}


def test_mutual_information_by_hand() -> None:
    # of (1, 2): log (3/6) / (1/3 1/3); of (3, 1): log (1/6) / (1/9)
    pair, rare = math.log(4.5), math.log(1.5)
    assert (1, 2) in lexicon(min_information=pair - 1e-6)
    assert (1, 2) not in lexicon(max_length=2, min_information=pair + 1e-6)
    assert (3, 1) in lexicon(max_length=2, min_information=rare - 1e-6)
    assert (3, 1) not in lexicon(max_length=2, min_information=rare + 1e-6)
    # of (1, 2, 3), of three trigrams: 1 | 2 3 gives (1/3) / (1/3 1/6), 1 2 | 3 (1/3) / (1/2 1/3)
    triple = math.log(2)
    assert (1, 2, 3) in lexicon(min_information=triple - 1e-6)
    assert (1, 2, 3) not in lexicon(min_information=triple + 1e-6)


def test_counts_and_order() -> None:
    assert lexicon(min_count=2) == [(1, 2)]
    assert lexicon(max_length=2, max_ngrams=2) == [(1, 2), (2, 3)]
    with pytest.raises(ValueError, match="max_ngram_length, min_count, max_ngrams: got 1, 1 and"):
        lexicon(max_length=1)


def test_matches_overlap_and_each_ngram_is_one_node() -> None:
    numbers, first, edges = NgramMatcher([(1, 2), (2, 3), (1, 2, 3)])(np.array([0, 1, 2, 3, 1, 2]))
    assert numbers.tolist() == [0, 2, 1]
    assert first.tolist() == [1, 1, 2]
    pairs = {(1, 0), (2, 0), (4, 0), (5, 0), (1, 1), (2, 1), (3, 1), (2, 2), (3, 2)}
    assert set(map(tuple, edges.T.tolist())) == pairs


def test_a_text_without_ngrams() -> None:
    numbers, first, edges = NgramMatcher([(1, 2)])(np.array([2, 1]))
    assert (numbers.shape, first.shape, edges.shape) == ((0,), (0,), (2, 0))
