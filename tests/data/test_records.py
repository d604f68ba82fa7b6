from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import MissingDataError, SymbolPairs, TextPairs, TextRecords
from graphformer.data.records import find_file, read_json_lines, read_records, read_table


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
    parts = {part: [text for text, _ in data.pieces(part)] for part in ("train", "val", "test")}
    assert parts["val"] == parts["test"] == [f"question {i}? {i * i}." for i in (4, 9, 14, 19)]
    assert len(parts["train"]) == 19
    tokenizer = data.need_tokenizer()
    tokens, starts = data.stream("val").tokens, data.stream("val").starts
    rows = np.split(tokens, starts[1:])
    assert [tokenizer.decode(row.tolist()) for row in rows] == parts["val"]
    assert all(row[-1] == tokenizer.eos_id for row in rows)
    batch = next(iter(data.val_dataloader()))
    assert sum(batch.lengths) == len(batch.x)
    own = TextRecords(str(path), str(path), template="{q}", block_size=7)
    assert len(list(own.pieces("train"))) == len(list(own.pieces("test"))) == 23
    half = TextRecords(str(path), test_path=str(path), template="{q}", val_fraction=0.2)
    sizes = [len(list(half.pieces(part))) for part in ("train", "val", "test")]
    assert sizes == [19, 4, 23]


def test_pairs_have_what_an_encoder_decoder_reads(tmp_path: Path) -> None:
    lines = [f"source {'ab' * (i % 5)}\ttarget {i}" for i in range(31)]
    path = write(tmp_path / "a.tsv", "\n".join(lines))
    data = TextPairs(str(path), vocabulary="bytes", max_tokens=150)
    data.setup()
    assert [len(data.parts[part]) for part in ("train", "val", "test")] == [25, 3, 3]
    assert len({pair for pairs in data.parts.values() for pair in pairs}) == 31
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
    assert sorted(seen) == sorted(data.parts["train"])


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
    with pytest.raises(ValueError, match="numbers of columns"):
        TextPairs(str(write(tmp_path / "a.tsv", "a\tb")), source="de").setup()


@pytest.mark.parametrize("task", ["reverse", "sort"])
def test_symbol_pairs(task: str) -> None:
    data = SymbolPairs(task, 7, min_length=3, max_length=5, num_samples=97)  # type: ignore[arg-type]
    data.setup()
    rows = {part: {tuple(row) for row in data.parts[part]} for part in data.parts}
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
