"""Prompts: accepted forms, refused ones, and the keys of random streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.generation import VOCAB, decoder, translator
from torch import nn

from graphformer import models
from graphformer.models.generation.prompts import (
    as_token_lists,
    check_length,
    check_token_ids,
    max_length,
    seed_keys,
)


@pytest.mark.parametrize(
    "one", [[3, 5, 7], (3, 5, 7), torch.tensor([3, 5, 7]), np.array([3, 5, 7]), [np.int64(3), 5, 7]]
)
def test_one_text(one):
    texts, is_batch = as_token_lists(one)
    assert (texts, is_batch) == ([[3, 5, 7]], False)
    assert all(type(token) is int for token in texts[0])


@pytest.mark.parametrize(
    "several",
    [
        [[3, 5], [7, 11]],
        [torch.tensor([3, 5]), [7, 11]],
        torch.tensor([[3, 5], [7, 11]]),
        np.array([[3, 5], [7, 11]]),
        ((3, 5), np.array([7, 11])),
    ],
)
def test_several_texts(several):
    assert as_token_lists(several) == ([[3, 5], [7, 11]], True)


def test_a_batch_of_one_text_is_a_batch():
    assert as_token_lists([[3]]) == ([[3]], True)


@pytest.mark.parametrize("empty", [[], [[1], []], [[]], torch.empty(0, dtype=torch.int64)])
def test_empty_prompts(empty):
    with pytest.raises(ValueError, match="prompts: got an empty one, expected at least one token"):
        as_token_lists(empty)


@pytest.mark.parametrize(
    "wrong", ["text", b"text", ["text"], [["text"]], 5, [1.5], [[1, 2.5]], torch.rand(3), None]
)
def test_other_things_than_ids(wrong):
    with pytest.raises(TypeError, match="expected token ids .* encode texts with the model's tok"):
        as_token_lists(wrong)


def test_generate_refuses_a_string():
    for model, options in ((decoder(), {}), (translator(), {"start_id": 0})):
        with pytest.raises(TypeError, match="prompts: got 'text', expected token ids"):
            model.generate("text", max_new_tokens=3, **options)


def test_keys_depend_on_the_text_and_its_source_only():
    keys = seed_keys([[1, 2], [3], [1, 2], [1, 2]])
    assert len(set(keys)) == 4
    assert [key[2] for key in keys] == [0, 0, 1, 2]
    assert keys[0][:2] == keys[2][:2] == keys[3][:2]
    assert seed_keys([[3]]) == [keys[1]]
    assert seed_keys([[3]], [7]) != [keys[1]]
    assert seed_keys([[12]]) != seed_keys([[1, 2]]), "the boundary between tokens counts"


def test_ids_outside_of_the_embedding():
    model = decoder()
    check_token_ids(model, [[0, VOCAB - 1]])
    check_token_ids(nn.Linear(2, 3), [[99]])
    for wrong in (-1, VOCAB):
        with pytest.raises(ValueError, match=rf"got the token id {wrong}, expected .* 0 to 30"):
            check_token_ids(model, [[1], [2, wrong]])


def test_the_longest_text_must_fit_the_positions():
    learned = models.language_model(VOCAB, dim=12, num_heads=2, max_length=7)
    assert max_length(learned) == 7
    check_length(learned, [[1], [1, 2, 3]], 5, None)  # the last token has no position
    with pytest.raises(ValueError, match="got 6, which makes a text of 8 tokens, .* max_length 7"):
        check_length(learned, [[1], [1, 2, 3]], 6, None)
    check_length(learned, [[1, 2, 3]], 99, 7)
    with pytest.raises(ValueError, match="pass context=7"):
        check_length(learned, [[1, 2, 3]], 99, 8)
    assert max_length(decoder("rotary")) is None
    assert max_length(decoder("sinusoidal")) is None
    check_length(decoder("rotary"), [[1]], 9999, None)
