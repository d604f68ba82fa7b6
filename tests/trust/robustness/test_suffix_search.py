"""Suffixes of prompts as text: printable tokens, the chat template around them, long prompts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphformer import models
from graphformer.data import Bytes
from graphformer.data.text.post_training.chat_template import SHIPPED
from graphformer.patterns import Causal
from graphformer.tasks.text.few_shot import Question, TextModel, prompt_ids
from graphformer.trust import attack_prompts
from graphformer.trust.robustness.suffix_search import (
    LENGTH,
    _around_suffix,
    printable_tokens,
)
from graphformer.trust.robustness.suffixes import find_suffix


@pytest.fixture
def model() -> TextModel:
    torch.manual_seed(0)
    tokenizer = Bytes(["<eos>"])
    network = models.language_model(tokenizer.vocab_size, dim=8, depth=1, num_heads=2)
    return TextModel(network.eval(), Causal(), tokenizer)


def test_printable_tokens(model: TextModel):
    allowed = printable_tokens(model.tokenizer)
    assert {ord("!"), ord("z")} <= set(allowed)
    assert not {ord(" "), ord("\n"), 200, model.tokenizer.eos_id} & set(allowed)


def test_the_suffix_is_that_of_the_token_ids(model: TextModel):
    (found,) = attack_prompts(model, ["ab"], target="c", steps=2)
    prompt, allowed = list(b"ab"), printable_tokens(model.tokenizer)
    expected = find_suffix(
        model.network, prompt, list(b" c"), initial=allowed[:1] * LENGTH, allowed=allowed, steps=2
    )
    assert found.attack == expected
    assert bytes(expected.suffix).decode() == found.suffix
    assert found.is_text
    assert found.attack.losses[-1] < found.attack.losses[0]


def test_a_suffix_is_inside_the_message_of_a_chat(model: TextModel):
    model.tokenizer.chat_template = SHIPPED["chatml"]
    head, tail = _around_suffix(model.tokenizer, "ab", True)
    whole = prompt_ids(model.tokenizer, Question("ab!", ""), chat=True)
    assert [*head, ord("!"), *tail] == whole
    assert tail


def test_a_long_prompt_is_cut_to_the_positions():
    tokenizer = Bytes()
    network = models.language_model(256, dim=8, depth=1, num_heads=2, max_length=17)
    model = TextModel(network.eval(), Causal(), tokenizer)
    long, short = attack_prompts(model, ["0123456789" * 3, "56789"], target="c", steps=1)
    assert long.attack == short.attack


def test_other_networks_are_named(model: TextModel):
    wrong = TextModel(nn.Linear(2, 3), Causal(), model.tokenizer)
    with pytest.raises(TypeError, match="got Linear, expected a decoder"):
        next(attack_prompts(wrong, ["a"], target="b", steps=1))
