from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.wordnet import write_animals

from graphformer.data import pack_tokens
from graphformer.data.text.tokenizer_training import train_tokenizer
from graphformer.tasks.text.masked_language import Masking
from graphformer.tasks.text.phrases import PhraseList, read_phrases

STARTS = np.array([True] * 8 + [False] * 3)  # ids 8, 9 and 10 continue a word


def test_the_longest_phrase_within_the_borders_of_words() -> None:
    phrases = PhraseList([[1, 2], [1, 2, 3], [3, 8], [4], [5, 9, 6]], STARTS)
    assert phrases.spans(np.array([0, 1, 2, 3, 8, 1, 2, 4])) == [(1, 3), (3, 5), (5, 7)]
    assert phrases.spans(np.array([1, 2, 3])) == [(0, 3)]
    assert phrases.spans(np.array([1, 2, 8])) == []  # the word goes on
    assert phrases.spans(np.array([5, 9, 6, 7])) == [(0, 3)]


def test_units_of_a_phrase_are_joined_within_a_text() -> None:
    phrases = PhraseList([[1, 2], [3, 8, 4]], STARTS)
    x = np.array([0, 1, 2, 1, 2, 3, 8, 4])
    words = np.array([0, 1, 2, 3, 4, 5, 5, 6])
    assert phrases.join(words, x, (4, 4)).tolist() == [0, 1, 1, 3, 4, 5, 5, 5]


def test_phrases_are_masked_as_a_whole() -> None:
    phrases = PhraseList([[1, 2, 8]], STARTS)
    batch = pack_tokens([[0, 1, 2, 8, 3], [1, 2, 8, 1, 2]])
    for words in (None, STARTS):
        masking = Masking(11, 10, word_starts=words, phrases=phrases, rate=0.5)
        masks = set()
        for seed in range(60):
            generators = [np.random.default_rng((seed, i)) for i in range(2)]
            _, labels = masking(batch, generators)
            masks.add(tuple((labels != -100).tolist()))
        assert {(mask[1:4], mask[5:8]) for mask in masks} == {
            ((a,) * 3, (b,) * 3) for a in (False, True) for b in (False, True)
        }
        assert {mask[8:10] for mask in masks} == {(a, b) for a in (0, 1) for b in (0, 1)}


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_phrases_of_a_tokenizer(kind: str) -> None:
    text = "the planes take off and the planes take offers in new york city"
    tokenizer = train_tokenizer(kind, [text] * 9, vocab_size=300)
    phrases = PhraseList.from_texts(["take off", "new york", "\u2603 man"], tokenizer)
    ids = tokenizer.encode(text)
    found = [tokenizer.decode(ids[a:b]).strip() for a, b in phrases.spans(ids.numpy())]
    assert found == ["take off", "new york"]


def test_lists_of_phrases(tmp_path: Path) -> None:
    assert read_phrases(write_animals(tmp_path)) == ["domestic dog"]
    file = tmp_path / "names.txt"
    file.write_text("New York\n\ntake_off\nsingle\nNew  York\n")
    assert read_phrases(file) == ["New York", "take off"]
    file.write_text("single\n")
    with pytest.raises(ValueError, match=r"phrases: got .*names\.txt, expected lines of two"):
        read_phrases(file)


def test_without_phrases_nothing_changes() -> None:
    batch = pack_tokens([[0, 1, 2, 8, 3]])
    masks = [
        Masking(11, 10, phrases=phrases, rate=0.4)(batch, [np.random.default_rng(3)])[1]
        for phrases in (None, PhraseList([], STARTS))
    ]
    assert torch.equal(*masks)
