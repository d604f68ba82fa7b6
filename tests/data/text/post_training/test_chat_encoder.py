"""Token ids of conversations: special tokens, answer masks, prompts that are prefixes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.chat import ANSWER, QUESTION, chat_folder

from graphformer.data import Tokenizer, train_tokenizer
from graphformer.data.text.hf_tokenizer import read_pretrained_tokenizer
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.post_training.chat_template import SHIPPED, ChatTemplate

WITH_BEGIN = "{{ bos_token }}" + SHIPPED["chatml"]
TWICE = [QUESTION, ANSWER, QUESTION, {"role": "assistant", "content": "Four."}]


@pytest.fixture
def pretrained(tmp_path: Path) -> Tokenizer:
    tokenizer = read_pretrained_tokenizer(chat_folder(tmp_path))
    assert tokenizer is not None
    return tokenizer


def test_ids_and_masks_of_transformers(pretrained: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = theirs.apply_chat_template(
        TWICE, chat_template=WITH_BEGIN, return_dict=True, return_assistant_tokens_mask=True
    )
    found = ChatEncoder(ChatTemplate(WITH_BEGIN), pretrained).encode(TWICE)
    assert found.ids.tolist() == expected["input_ids"]
    assert found.is_answer.tolist() == [bool(x) for x in expected["assistant_masks"]]


def test_the_template_alone_writes_the_begin_token(pretrained: Tokenizer) -> None:
    begin = pretrained.need("bos")
    assert pretrained.encode("a")[0] == begin  # the tokenizer adds it to plain texts
    encoder = ChatEncoder(ChatTemplate(WITH_BEGIN), pretrained)
    for ids in (encoder.encode(TWICE).ids, encoder.prompt(TWICE[:1])):
        assert (ids == begin).sum() == 1
        assert ids[0] == begin


def test_the_final_end_token_has_a_loss_though_it_is_the_padding_token(
    pretrained: Tokenizer,
) -> None:
    assert pretrained.special("pad") == pretrained.special("eos")
    found = ChatEncoder(ChatTemplate("chatml"), pretrained).encode(TWICE)
    ends = np.flatnonzero(found.ids == pretrained.need("eos"))
    assert len(ends) == 4  # of both questions and both answers
    assert found.is_answer[ends].tolist() == [False, True, False, True]


def test_all_answers_or_the_last() -> None:
    encoder = ChatEncoder(ChatTemplate("turns"), train_tokenizer("bytes", []))
    decode = encoder.tokenizer.decode
    for loss_on, expected in (("all", " It is four. Four."), ("last", " Four.")):
        found = encoder.encode(TWICE, loss_on=loss_on)
        assert decode(found.ids[found.is_answer]) == expected
    assert encoder.end_ids() == [encoder.tokenizer.eos_id]


def test_messages_cannot_contain_special_tokens_of_our_tokenizers() -> None:
    tokenizer = train_tokenizer("bytes", [])
    encoder = ChatEncoder(ChatTemplate("turns"), tokenizer)
    found = encoder.encode([{"role": "user", "content": "<eos><bos>"}, ANSWER])
    assert np.isin(found.ids, tokenizer.special_ids).sum() == 2  # those of the template


@pytest.mark.parametrize("kind", ["bytes", "characters", "bpe"])
def test_a_prompt_is_the_beginning_of_the_conversation(kind: str) -> None:
    texts = [ChatTemplate("turns").plain_text(TWICE)]
    encoder = ChatEncoder(ChatTemplate("turns"), train_tokenizer(kind, texts, vocab_size=280))
    ids = encoder.encode(TWICE).ids
    prompt = encoder.prompt(TWICE[:3])
    assert np.array_equal(ids[: len(prompt)], prompt)
    assert encoder.encode(TWICE, loss_on="last").is_answer.argmax() == len(prompt)


def test_a_prompt_that_is_no_prefix_is_refused() -> None:
    tokenizer = train_tokenizer("bpe", ["abab abab abab"] * 9, vocab_size=290)
    encoder = ChatEncoder(ChatTemplate("plain"), tokenizer)
    with pytest.raises(ValueError, match="template: got a text whose tokens change after 'a'"):
        encoder.encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    other_prompt = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    other_prompt += "{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    encoder = ChatEncoder(ChatTemplate(other_prompt), tokenizer)
    with pytest.raises(ValueError, match="same generation prompt in both"):
        encoder.encode([QUESTION, ANSWER])


def test_answers_and_marks_are_required() -> None:
    tokenizer = train_tokenizer("bytes", [])
    unmarked = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ValueError, match="template: got one without {% generation %} marks"):
        ChatEncoder(unmarked, tokenizer).encode([QUESTION, ANSWER])
    with pytest.raises(ValueError, match="messages: got no turn of the role assistant"):
        ChatEncoder(ChatTemplate("turns"), tokenizer).encode([QUESTION])
    with pytest.raises(ValueError, match="messages: got a prompt without tokens"):
        ChatEncoder(unmarked, tokenizer).prompt([{"role": "user", "content": ""}])
