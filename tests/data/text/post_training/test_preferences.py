"""Pairs of answers: the layouts of files, batches, cuts and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphformer.data import PreferenceFile
from graphformer.data.text.post_training.preferences import read_pairs

HH = {
    "chosen": "\n\nHuman: a\n\nb?\n\nAssistant: no\n\nHuman: c\n\nAssistant: good",
    "rejected": "\n\nHuman: a\n\nb?\n\nAssistant: no\n\nHuman: c\n\nAssistant: bad one",
}


def write(folder: Path, records: list[Any]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def texts(messages: Any) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in messages]


def test_layouts(tmp_path: Path) -> None:
    turn = [{"role": "assistant", "content": "good"}]
    user = [{"role": "user", "content": "c"}]
    path = write(
        tmp_path,
        [
            HH,
            {"prompt": "c", "chosen": "good", "rejected": "bad one", "score": 1.5},
            {"prompt": user, "chosen": turn, "rejected": [{**turn[0], "content": "bad one"}]},
            {"chosen": user + turn, "rejected": [*user, {**turn[0], "content": "bad one"}]},
        ],
    )
    pairs = list(read_pairs(path))
    expected = ["user: a\n\nb?", "assistant: no", "user: c"]
    assert texts(pairs[0].chosen) == [*expected, "assistant: good"]
    assert texts(pairs[0].rejected) == [*expected, "assistant: bad one"]
    for pair in pairs[1:]:
        assert texts(pair.chosen) == ["user: c", "assistant: good"]
        assert texts(pair.rejected) == ["user: c", "assistant: bad one"]
    table = tmp_path / "pairs.tsv"
    table.write_text("prompt\tchosen\trejected\tscore\nc\tgood\tbad one\t1.5\n")
    (pair,) = read_pairs(table, margin="score")
    assert (texts(pair.chosen), pair.margin) == (["user: c", "assistant: good"], 1.5)


def test_batches_have_chosen_and_rejected_in_turn(tmp_path: Path) -> None:
    records = [
        {"prompt": "q" * i, "chosen": "good" * i, "rejected": "bad", "m": i} for i in range(1, 20)
    ]
    data = PreferenceFile(str(write(tmp_path, records)), margin="m", val_fraction=0.3)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    rows = batch.x.split(list(batch.lengths))
    labels = batch.y.split(list(batch.lengths))
    eos = data.need_tokenizer().eos_id
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        size = int(batch.margin[i // 2])
        answer = "good" * size if i % 2 == 0 else "bad"
        assert data.decode(row) == f"User: {'q' * size}\n\nAssistant: {answer}"
        assert row[-1] == eos  # the last token of a sample ends the answer
        assert data.decode(label[label != -100]) == f" {answer}"
        assert label[-1] == -100
        assert label[-2] == eos
        assert batch.length_difference[i // 2] == 4 * size - 3


def test_the_prompt_is_cut_and_an_answer_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    path = str(write(tmp_path, [{"prompt": "x" * 90, "chosen": "yes", "rejected": "no"}] * 9))
    data = PreferenceFile(path, max_length=17)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert set(batch.lengths) == {17}
    assert data.decode(batch.x[:17]) == "\n\nAssistant: yes"
    short = PreferenceFile(path, max_length=5)
    short.setup()
    with pytest.raises(ValueError, match=r"max_length: got 5, but an answer of .*jsonl, line"):
        short.train_dataloader()


@pytest.mark.parametrize(
    "record",
    [
        {"chosen": "a"},
        {"chosen": "no turns", "rejected": "b"},
        {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"},
        {"prompt": "a", "chosen": "b", "rejected": "c", "m": "x"},
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, record: Any) -> None:
    with pytest.raises(ValueError, match="pairs.jsonl, line 1: "):
        list(read_pairs(write(tmp_path, [record]), margin="m" if "m" in record else None))


def test_real_pairs(real_data: Callable[[str], Path]) -> None:
    pairs = list(read_pairs(real_data("hh_rlhf/harmless-base/test.jsonl.gz")))
    assert len(pairs) == 2312
    assert all(pair.chosen[-1]["role"] == "assistant" for pair in pairs)
    sizes = [[len(p[-1]["content"]) for p in (pair.chosen, pair.rejected)] for pair in pairs]
    right = sum((a < b) + (a == b) / 2 for a, b in sizes) / len(sizes)
    assert right == pytest.approx(0.553, abs=0.005)  # "the shorter answer wins"
