"""JSON lines and tables: records, encodings, and messages that name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from graphformer.data import MissingDataError, TextRecords
from graphformer.data.io.tabular import (
    decode,
    find_file,
    read_json_lines,
    read_lines,
    read_records,
    read_table,
    read_text_pairs,
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
    with pytest.raises(ValueError, match="not a complete gzip file"):
        list(read_table(path, 2))


def test_tables_with_commas_have_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,y\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n')
    rows = [(2, {"x": 'a, "b"\nc', "y": "1"}), (5, {"x": "d", "y": "2"})]
    assert list(read_records(path)) == rows
    with pytest.raises(ValueError, match=r"a.csv, line 2: expected 3 columns separated by commas"):
        list(read_table(write(path, "a,b,c\nd,e\n"), 3))


def test_byte_order_marks_and_other_encodings(tmp_path: Path) -> None:
    mark = "\ufeff"
    assert list(read_json_lines(write(tmp_path / "a.jsonl", mark + '{"a": 1}'))) == [(1, {"a": 1})]
    for ending, comma in ((".tsv", "\t"), (".csv", ",")):
        path = write(tmp_path / f"a{ending}", f"{mark}a{comma}b\né{comma}{mark}c")
        assert list(read_records(path)) == [(2, {"a": "é", "b": f"{mark}c"})]
        path.write_bytes(f"a{comma}b\né{comma}c".encode("latin-1"))
        assert list(read_records(path, encoding="latin-1")) == [(2, {"a": "é", "b": "c"})]
        with pytest.raises(ValueError, match=f"a{ending}, line 2: not utf-8 text; convert"):
            list(read_records(path))
        with pytest.raises(ValueError, match="encoding: got 'latin-x', expected one that Python"):
            list(read_records(path, encoding="latin-x"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("null", "line 1: the field 'a' is null; fill it in"),
        ('["b"]', "line 1: expected text in the field 'a', got a list"),
        ('{"b": 1}', "line 1: expected text in the field 'a', got an object"),
        (r'"b\ud83d"', "line 1: the field 'a' has an incomplete character at position 1"),
    ],
)
def test_fields_that_are_not_text_are_refused(tmp_path: Path, value: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"a": {value}, "c": "d"}}')
    with pytest.raises(ValueError, match=message):
        list(read_text_pairs(path, "c", "a"))


def test_messages_about_missing_files_name_both_paths(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"neither a file .*none.tsv nor .*none.tsv; put"):
        find_file("none.tsv", str(tmp_path))
    write(tmp_path / "there.tsv", "a\tb\n")
    assert find_file("there.tsv", str(tmp_path)) == tmp_path / "there.tsv"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("compress", [False, True])
def test_encodings_of_several_bytes_a_character(
    tmp_path: Path, encoding: str, compress: bool
) -> None:
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"  # these two write their own
    raw = f"{mark}a\tb\r\nĊ\t\u010a1\n\nü\t2\n".encode(encoding)  # the bytes of Ċ include "\n"
    path = tmp_path / ("a.tsv.gz" if compress else "a.tsv")
    path.write_bytes(gzip.compress(raw) if compress else raw)
    rows = [(2, {"a": "Ċ", "b": "Ċ1"}), (4, {"a": "ü", "b": "2"})]
    assert list(read_records(path, encoding=encoding)) == rows
    assert decode(raw, encoding, "there").startswith("a\tb")


def test_broken_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("ab\n".encode("utf-16") + b"x")
    with pytest.raises(ValueError, match=r"a.tsv, after line \d: not utf-16 text; convert"):
        list(read_lines(tmp_path / "a.tsv", "utf-16"))


def test_semicolons_separate_where_the_header_has_no_comma(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id;name\n1;"a;b"\n2;c, d\n')
    assert [record for _, record in read_records(path)] == [
        {"id": "1", "name": "a;b"},
        {"id": "2", "name": "c, d"},
    ]
    path.write_text("text,labels\nx,a;b\n")
    assert [record for _, record in read_records(path)] == [{"text": "x", "labels": "a;b"}]
    path.write_text("a;b,c\n")
    rows = [record for _, record in read_records(path, header=False)]
    assert rows == [{"0": "a;b", "1": "c"}]
