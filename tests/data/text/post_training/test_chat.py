"""Batches of conversations: labels of answers, cuts, checkpoints, errors with the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.chat import ANSWER, QUESTION, chat_folder

from graphformer.data import ChatFile
from graphformer.data.text.post_training.chat_template import SHIPPED


def write(folder: Path, count: int = 23) -> str:
    lines = [
        {"messages": [QUESTION, {"role": "assistant", "content": "x" * (1 + i % 5)}]}
        for i in range(count)
    ]
    path = folder / "chat.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def data(folder: Path, **options: Any) -> ChatFile:
    made = ChatFile(write(folder), **options)
    made.setup()
    return made


def test_batches(tmp_path: Path) -> None:
    chat = data(tmp_path)
    batch = next(iter(chat.val_dataloader()))
    start = 0
    for length in batch.lengths:
        ids, labels = batch.x[start : start + length], batch.y[start : start + length]
        answer = labels[labels != -100]
        assert chat.decode(answer).strip("x") == " "
        assert answer[-1] == chat.need_tokenizer().eos_id
        # a label is the next token
        assert torch.equal(ids[1:][labels[:-1] != -100], labels[:-1][labels[:-1] != -100])
        start += length


def test_a_cut_shortens_the_answer_and_an_answer_that_is_cut_away_is_an_error(
    tmp_path: Path,
) -> None:
    prompt = "User: two plus two?\n\nAssistant:"
    batch = next(iter(data(tmp_path, max_length=len(prompt) + 2).val_dataloader()))
    assert max(batch.lengths) == len(prompt) + 2
    assert (batch.y != -100).sum() <= 2 * len(batch.lengths)
    with pytest.raises(ValueError, match=r"max_length: got 7, but the answer of .*jsonl, line"):
        data(tmp_path, max_length=7).train_dataloader()


def test_the_template_of_a_folder_and_of_a_checkpoint(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "model", template=SHIPPED["chatml"])
    chat = data(tmp_path, vocabulary=str(folder))
    assert chat.decode(next(iter(chat.train_dataloader())).x)
    assert chat.chat_encoder().template.source == SHIPPED["chatml"]
    other = data(tmp_path, template="turns")
    other.load_state_dict(chat.state_dict())
    assert other.chat_encoder().template.source == SHIPPED["chatml"]
    assert other.vocab_size == chat.vocab_size
    file = tmp_path / "mine.jinja"
    file.write_text(SHIPPED["plain"])
    assert data(tmp_path, template=str(file)).chat_encoder().template.source == SHIPPED["plain"]
    assert data(tmp_path, template=SHIPPED["plain"]).chat_encoder().template.has_marks


def test_a_vocabulary_is_trained_on_the_text_of_the_template(tmp_path: Path) -> None:
    chat = data(tmp_path, vocabulary="characters")
    assert chat.decode(chat.chat_encoder().encode([QUESTION, {**ANSWER, "content": "x"}]).ids)
    assert "A" in chat.need_tokenizer().backend.get_vocab()  # of "Assistant:"


def test_errors_name_the_line(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "model", template="{{ messages[0].content }}")
    with pytest.raises(ValueError, match=r"chat.jsonl, line \d+: template: got one without"):
        data(tmp_path, vocabulary=str(folder)).train_dataloader()
