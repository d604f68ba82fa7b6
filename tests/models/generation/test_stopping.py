"""Stopping criteria: length, end tokens, stop sequences and stop strings."""

from __future__ import annotations

import pytest
from helpers.generation import PROMPTS, decoder

from graphformer.data import Characters
from graphformer.models.generation.stopping import StoppingCriteria


def test_the_length_counts_new_tokens():
    stopping = StoppingCriteria(None, (), 3)
    assert not stopping([7, 7, 7, 7, 1, 2], 4)
    assert stopping([7, 7, 7, 7, 1, 2, 3], 4)


@pytest.mark.parametrize("eos", [5, [5, 11], (11, 5)])
def test_end_tokens_after_the_prompt(eos):
    stopping = StoppingCriteria(eos, (), 13)
    assert stopping([1, 2, 5], 2)
    assert not stopping([1, 5], 2), "in the prompt"
    assert not stopping([1, 5, 2], 1), "not the last token"


def test_sequences_are_within_the_new_tokens():
    stopping = StoppingCriteria((), [[3, 5], (2,)], 13)
    assert stopping([1, 3, 5], 1)
    assert not stopping([3, 5], 1), "begins in the prompt"
    assert not stopping([1, 5, 3], 1)
    assert stopping([1, 7, 2], 1)


def test_strings_are_found_in_the_decoded_text():
    stopping = StoppingCriteria(None, ["cd", [7]], 13, lambda ids: "".join(chr(i) for i in ids))
    assert not stopping([*map(ord, "ab"), ord("c")], 2)
    assert stopping([*map(ord, "abcd")], 2)
    assert not stopping([*map(ord, "cd"), ord("e")], 2), "in the prompt"
    assert stopping([1, 7], 1)


def test_a_single_string_is_one_stop():
    stopping = StoppingCriteria(None, "ab", 13, lambda ids: "".join(chr(i) for i in ids))
    assert not stopping([0, ord("a")], 1)
    assert stopping([0, ord("a"), ord("b")], 1)


def test_wrong_stops():
    for empty in ([[]], [""], [[1], ()]):
        with pytest.raises(ValueError, match="stop: got an empty sequence"):
            StoppingCriteria(None, empty, 3)
    with pytest.raises(ValueError, match="stop: got the string 'x' for a network without a tok"):
        StoppingCriteria(None, ["x"], 3)


def test_generation_ends_each_text_by_itself():
    model = decoder()
    free = model.generate(PROMPTS, max_new_tokens=13, temperature=0)
    eos = free[1][len(PROMPTS[1]) + 3]
    ended = model.generate(PROMPTS, max_new_tokens=13, temperature=0, eos_token_id=eos)
    for prompt, whole, short in zip(PROMPTS, free, ended, strict=True):
        new = whole[len(prompt) :]
        assert short == prompt + (new[: new.index(eos) + 1] if eos in new else new)
    start = len(PROMPTS[0]) + 5
    stop = free[0][start : start + 2]
    stopped = model.generate(PROMPTS[0], max_new_tokens=13, temperature=0, stop=[stop])
    assert stopped[-2:] == stop
    assert stopped == free[0][: len(stopped)]


def test_generation_with_a_stop_string():
    tokenizer = Characters("abcdefghijklmnopqrstuvwxyz .,!?")
    model = decoder(vocab_size=tokenizer.vocab_size)
    free = model.generate([1, 2, 3], max_new_tokens=17, temperature=0)
    text = tokenizer.decode(free[3:])
    stop = text[5:7]
    with pytest.raises(ValueError, match="encode it first"):
        model.generate([1, 2, 3], max_new_tokens=17, temperature=0, stop=[stop])
    model.tokenizer = tokenizer
    stopped = model.generate([1, 2, 3], max_new_tokens=17, temperature=0, stop=[stop])
    assert tokenizer.decode(stopped[3:]) == text[: text.index(stop) + 2]


def test_a_token_id_is_no_sequence():
    with pytest.raises(TypeError, match=r"stop: got the token id 5, .*pass stop=\[\[5\]\]"):
        StoppingCriteria(None, [5], 13)
