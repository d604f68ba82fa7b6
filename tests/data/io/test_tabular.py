from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphformer.data import MissingDataError, SymbolPairs, TextPairs, TextRecords
from graphformer.data.io.tabular import (
    find_file,
    read_json_lines,
    read_records,
    read_table,
    text_fields,
)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_json_lines_are_numbered_and_blank_ones_skipped(tmp_path: Path) -> None:
    text = '{"a": 1}\n\n{"a": "é"}\r\n'
    for path in (write(tmp_path / "a.jsonl", text), tmp_path / "a.jsonl.gz"):
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(text.encode()))
        assert list(read_json_lines(path)) == [(1, {"a": 1}), (3, {"a": "é"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', r"a.jsonl, line 2: not JSON \(.* at column 7\)"),
        ("[1, 2]\n", r"a.jsonl, line 1: expected a JSON object, got list"),
        ('{"b": 1}\n', r"a.jsonl, line 1: there is no field 'a', only 'b'"),
    ],
)
def test_wrong_json_lines_are_named_by_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path / "a.jsonl", text)
    with pytest.raises(ValueError, match=message) as caught:
        list(TextRecords(str(path), str(path), template="{a}").pieces("train"))
    assert "\n" not in str(caught.value)


def test_tables_are_checked_line_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "x\ty\n1\t2\n3\n")
    with pytest.raises(ValueError, match=r"a.tsv, line 3: expected 2 columns .* got 1"):
        list(read_table(path, 2))
    with pytest.raises(ValueError, match=r"a.tsv, line 3: expected the header's 2 columns, got 1"):
        list(read_records(path))
    rows = read_records(path)
    assert next(rows) == (2, {"x": "1", "y": "2"})
    assert next(read_records(path, header=False)) == (1, {"0": "x", "1": "y"})
    path.write_bytes(b"a\tb\n\xff\tc\n")
    with pytest.raises(ValueError, match=r"a.tsv, line 1: not utf-8 text|line 2: not utf-8 text"):
        list(read_table(path, 2))
    path = tmp_path / "b.tsv.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        list(read_table(path, 2))


def test_tables_with_commas_have_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,y\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n')
    rows = [(2, {"x": 'a, "b"\nc', "y": "1"}), (5, {"x": "d", "y": "2"})]
    assert list(read_records(path)) == rows
    with pytest.raises(ValueError, match=r"a.csv, line 2: expected 3 columns separated by commas"):
        list(read_table(write(path, "a,b,c\nd,e\n"), 3))


def test_marks_of_the_byte_order_and_other_encodings(tmp_path: Path) -> None:
    mark = "\ufeff"
    assert list(read_json_lines(write(tmp_path / "a.jsonl", mark + '{"a": 1}'))) == [(1, {"a": 1})]
    for ending, comma in ((".tsv", "\t"), (".csv", ",")):
        path = write(tmp_path / f"a{ending}", f"{mark}a{comma}b\né{comma}{mark}c")
        assert list(read_records(path)) == [(2, {"a": "é", "b": f"{mark}c"})]
        path.write_bytes(f"a{comma}b\né{comma}c".encode("latin-1"))
        assert list(read_records(path, encoding="latin-1")) == [(2, {"a": "é", "b": "c"})]
        with pytest.raises(ValueError, match=f"a{ending}, line 2: not utf-8 text; convert"):
            list(read_records(path))
        with pytest.raises(ValueError, match="encoding is 'latin-x', which is none that Python"):
            list(read_records(path, encoding="latin-x"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("null", "line 1: the field 'a' is null: fill it in"),
        ('["b"]', "line 1: expected a text in the field 'a', got a list"),
        ('{"b": 1}', "line 1: expected a text in the field 'a', got an object"),
        (r'"b\ud83d"', "line 1: the field 'a' has half of a character at place 1"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, value: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"a": {value}, "c": "d"}}')
    with pytest.raises(ValueError, match=message):
        list(text_fields(path, "c", "a"))


def test_missing_files_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"neither a file .*none.tsv nor .*none.tsv: put"):
        find_file("none.tsv", str(tmp_path))
    write(tmp_path / "there.tsv", "a\tb\n")
    assert find_file("there.tsv", str(tmp_path)) == tmp_path / "there.tsv"


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


def test_pairs_have_what_an_encoder_decoder_reads(tmp_path: Path) -> None:
    lines = [f"source {'ab' * (i % 5)}\ttarget {i}" for i in range(31)]
    path = write(tmp_path / "a.tsv", "\n".join(lines))
    data = TextPairs(str(path), vocabulary="bytes", max_tokens=150)
    data.setup()
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [25, 3, 3]
    assert len({pair for pairs in data.splits.values() for pair in pairs}) == 31
    bos, eos = data.tokenizer.bos_id, data.tokenizer.eos_id
    seen = []
    for batch in data.train_dataloader():
        assert len(batch.x) + len(batch.source) <= 150
        assert len(batch.lengths) == len(batch.source_lengths)
        sources = batch.source.split(list(batch.source_lengths))
        reads, answers = batch.x.split(list(batch.lengths)), batch.y.split(list(batch.lengths))
        for source, read, answer in zip(sources, reads, answers, strict=True):
            assert read[0] == bos
            assert answer[-1] == eos
            assert torch.equal(read[1:], answer[:-1])
            seen.append((data.decode(source), data.decode(answer)))
    assert sorted(seen) == sorted(data.splits["train"])


def test_pairs_from_json_lines_and_of_limited_length(tmp_path: Path) -> None:
    records = [{"de": "x" * i, "en": "y" * 3} for i in range(1, 20)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))
    data = TextPairs(
        str(path), str(path), str(path), source="de", target="en", vocabulary="bytes", max_length=11
    )
    data.setup()
    lengths = [n for batch in data.train_dataloader() for n in batch.source_lengths]
    assert sorted(lengths) == list(range(1, 12))
    lengths = [n for batch in data.test_dataloader() for n in batch.source_lengths]
    assert sorted(lengths) == [*range(1, 12), *[11] * 8]
    path = write(tmp_path / "a.tsv", "de\ten\nx\ty\n")
    with pytest.raises(ValueError, match="line 2: there is no field '1', only 'de', 'en'"):
        TextPairs(str(path), source="de").setup()
    named = TextPairs(str(path), source="en", target="de", vocabulary="bytes")
    named.setup()
    assert named.splits["train"] == [("y", "x")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction is 0.0: expected above 0"),
        ({"template": "{a"}, r"template is '\{a' \(.*\): write fields as \{name\}"),
    ],
)
def test_wrong_shares_and_templates_are_named(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n')
    with pytest.raises(ValueError, match=message):
        list(TextRecords(str(path), **options).pieces("train"))


@pytest.mark.parametrize("task", ["reverse", "sort"])
def test_symbol_pairs(task: str) -> None:
    data = SymbolPairs(task, 7, min_length=3, max_length=5, num_samples=97)  # type: ignore[arg-type]
    data.setup()
    rows = {split: {tuple(row) for row in data.splits[split]} for split in data.splits}
    assert not rows["train"] & rows["val"] | rows["test"] & (rows["train"] | rows["val"])
    batch = next(iter(data.val_dataloader()))
    sources = batch.source.split(list(batch.source_lengths))
    for source, answer in zip(sources, batch.y.split(list(batch.lengths)), strict=True):
        wanted = source.flip(0) if task == "reverse" else source.sort().values
        assert answer.tolist() == [*wanted.tolist(), data.eos_id]
    assert data.vocab_size == 9
    with pytest.raises(ValueError, match="min_length is 5 and max_length 3"):
        SymbolPairs(min_length=5, max_length=3)


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
