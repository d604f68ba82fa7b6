"""Prompts: batches with texts, order, errors with the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphformer.data import PromptFile


def data(folder: Path, records: list[Any], **options: Any) -> PromptFile:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    made = PromptFile(str(path), **options)
    made.setup()
    return made


def test_batches_have_texts_and_token_ids(tmp_path: Path) -> None:
    records = [{"q": "x" * (1 + i % 4), "a": str(i)} for i in range(23)]
    prompts = data(tmp_path, records, prompt="q", reference="a", batch_size=5)
    loader = prompts.train_dataloader()
    batches = list(loader)
    assert [len(batch.prompts) for batch in batches] == [5, 5, 5, 5, 1]
    references = [text for batch in batches for text in batch.references]
    assert len(set(references)) == 21
    rows = batches[0].x.split(list(batches[0].lengths))
    for row, text in zip(rows, batches[0].prompts, strict=True):
        assert prompts.decode(row) == f"User: {text}\n\nAssistant:"
    loader.sampler.set_epoch(1)
    assert [text for batch in loader for text in batch.references] != references


def test_messages_and_prompts_without_a_reference(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    prompts = data(tmp_path, [{"prompt": turns}] * 3)
    batch = next(iter(prompts.train_dataloader()))
    assert batch.prompts[0] == "u"
    assert batch.references[0] == ""
    assert prompts.decode(batch.x[: batch.lengths[0]]) == "System: s\n\nUser: u\n\nAssistant:"


def test_errors_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompts.jsonl, line 2: there is no field 'prompt'"):
        data(tmp_path, [{"prompt": "a"}, {"q": "a"}])
    prompts = data(tmp_path, [{"prompt": "a" * 40}] * 3, max_length=30)
    with pytest.raises(ValueError, match=r"max_length: got 30, but the prompt of .*jsonl, line"):
        prompts.train_dataloader()
