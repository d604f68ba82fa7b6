"""Sentences of token ids: ends in several scripts, orders that lose nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.text.multilingual.sentences import (
    ends_sentences,
    permute_sentences,
    split_sentences,
)
from graphformer.data.text.tokenizer_training import train_tokenizer

TEXT = "So it is. Is it?! Ja 今日は。नमस्ते। no end"


def test_ends_of_several_scripts() -> None:
    tokenizer = train_tokenizer("characters", [TEXT])
    ends = ends_sentences(tokenizer)
    assert ends.shape == (tokenizer.vocab_size,)
    sentences = split_sentences(tokenizer.encode(TEXT).numpy(), ends)
    texts = [tokenizer.decode(sentence.tolist()) for sentence in sentences]
    assert texts == ["So it is.", " Is it?!", " Ja 今日は。", "नमस्ते।", " no end"]
    assert ends.sum() == 5
    assert not ends[list(tokenizer.special_ids)].any()


@given(st.lists(st.integers(0, 6), max_size=37), st.integers(0, 97))
def test_no_token_is_lost(ids: list[int], seed: int) -> None:
    ends = np.array([False] * 5 + [True] * 2)
    row = np.array(ids, np.int64)
    permuted = permute_sentences(row, ends, np.random.default_rng(seed))
    assert sorted(permuted.tolist()) == sorted(ids)
    pieces = [piece.tolist() for piece in split_sentences(row, ends)]
    assert [id_ for piece in pieces for id_ in piece] == ids


def test_sentences_stay_whole_in_a_random_order() -> None:
    row, ends = np.arange(30), np.tile([False, False, True], 10)
    orders = [permute_sentences(row, ends, np.random.default_rng(seed)) for seed in range(5)]
    assert len({tuple(order.tolist()) for order in orders}) == 5
    for order in orders:
        sentences = order.reshape(10, 3)
        assert (np.diff(sentences, axis=1) == 1).all()
        assert sorted(sentences[:, 0].tolist()) == list(range(0, 30, 3))
