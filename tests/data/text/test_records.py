"""Records as documents: templates, splits, caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphformer.data import MissingDataError, TextRecords


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_records_become_documents(tmp_path: Path) -> None:
    records = [{"q": f"question {i}", "a": i * i} for i in range(23)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))
    data = TextRecords(str(path), template="{q}? {a}.", block_size=7, val_fraction=0.2)
    data.setup()
    splits = {split: [text for text, _ in data.pieces(split)] for split in ("train", "val", "test")}
    assert splits["val"] == splits["test"] == [f"question {i}? {i * i}." for i in (4, 9, 14, 19)]
    assert len(splits["train"]) == 19
    tokenizer = data.need_tokenizer()
    tokens, starts = data.stream("val").tokens, data.stream("val").starts
    rows = np.split(tokens, starts[1:])
    assert [tokenizer.decode(row.tolist()) for row in rows] == splits["val"]
    assert all(row[-1] == tokenizer.eos_id for row in rows)
    batch = next(iter(data.val_dataloader()))
    assert sum(batch.lengths) == len(batch.x)
    own = TextRecords(str(path), str(path), template="{q}", block_size=7)
    assert len(list(own.pieces("train"))) == len(list(own.pieces("test"))) == 23
    half = TextRecords(str(path), test_path=str(path), template="{q}", val_fraction=0.2)
    sizes = [len(list(half.pieces(split))) for split in ("train", "val", "test")]
    assert sizes == [19, 4, 23]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction: got 0.0, expected above 0"),
        ({"template": "{a"}, r"template: got '\{a' \(.*\), expected fields as \{name\}"),
    ],
)
def test_wrong_fractions_and_templates_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n')
    with pytest.raises(ValueError, match=message):
        list(TextRecords(str(path), **options).pieces("train"))


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("gsm8k/train.jsonl", {"template": "{question}\n{answer}"}, "Natalia sold clips"),
        ("hh_rlhf/harmless-base/test.jsonl.gz", {"template": "{chosen}"}, "\n\nHuman: what"),
    ],
)
def test_real_records(
    real_data: Callable[[str], Path], name: str, options: dict[str, str], start: str
) -> None:
    data = TextRecords(str(real_data(name)), **options)
    text, ends = next(data.pieces("train"))
    assert text.startswith(start)
    assert ends


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 101), (0.1, 101), (0.25, 7), (0.1, 5)])
@pytest.mark.parametrize("form", ["json", "blank lines", "cells of two lines"])
def test_records_are_split_by_record(
    tmp_path: Path, fraction: float, count: int, form: str
) -> None:
    texts = [f"record {i}\nits second line" for i in range(count)]
    if form == "cells of two lines":
        path = write(tmp_path / "a.csv", "text\n" + "".join(f'"{text}"\n' for text in texts))
    else:
        end = "\n\n\n" if form == "blank lines" else "\n"
        path = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": t}) + end for t in texts))
    data = TextRecords(str(path), val_fraction=fraction)
    train, val = ([text for text, _ in data.pieces(split)] for split in ("train", "val"))
    assert sorted([*train, *val]) == sorted(texts)
    assert abs(len(val) - fraction * count) <= 1
    assert val, "a short file has one record for validation"


def test_records_are_tokenized_once_for_a_template(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "".join(f'{{"a": {i}, "b": "x"}}\n' for i in range(9)))

    def make(**options: Any) -> TextRecords:
        return TextRecords(str(path), template="{a}", **options)

    data = make()
    keys = {
        data.cache_key("train"),
        data.cache_key("val"),
        make(val_path=str(path)).cache_key("val"),
    }
    keys.add(TextRecords(str(path), template="{b}").cache_key("train"))
    keys.add(make(val_fraction=0.3).cache_key("train"))
    assert len(keys) == 5
    assert make().cache_key("train") == data.cache_key("train")


def test_missing_files_are_found_before_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": 1}\n')
    TextRecords(str(path)).prepare_data()
    with pytest.raises(MissingDataError, match=r"b.jsonl"):
        TextRecords(str(path), str(tmp_path / "b.jsonl")).prepare_data()
