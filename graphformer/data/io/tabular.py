"""JSON lines and tables (.jsonl, .tsv, .csv, .parquet); errors name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from graphformer.data.io.cache import MissingDataError, data_root
from graphformer.data.io.columnar import COLUMNAR, read_columnar
from graphformer.data.io.hub_datasets import is_hub_name, parse_hub_name, read_hub

_JSON = frozenset((".jsonl", ".json", ".ndjson"))


def find_file(path: str | os.PathLike[str], root: str | os.PathLike[str] | None) -> Path:
    """Return a file: `path` as it is, or under the data root.

    Raises:
        MissingDataError: when neither exists.
    """
    found = Path(path).expanduser()
    under_root = data_root(root) / path
    for candidate in (found, under_root):
        if candidate.is_file():
            return candidate
    raise MissingDataError(
        f"there is neither a file {found.absolute()} nor {under_root.absolute()}; put the data "
        "there, or set root or the variable GRAPHFORMER_DATA to its folder"
    )


def find_records(path: str | os.PathLike[str], root: str | os.PathLike[str] | None) -> Path:
    """Return a file of records as `find_file`, or the name of a data set of the Hub as it is.

    Raises:
        MissingDataError: when there is no such file.
        ValueError: when a name `hf:...` is malformed, see `HubName`.
    """
    if not is_hub_name(path):
        return find_file(path, root)
    parse_hub_name(path)
    return Path(path)


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line that is not blank, of a plain or gzipped file.

    A byte order mark, with which some editors begin a line or file, is removed.

    Raises:
        ValueError: when a line is not in the encoding, when Python does not know the encoding, or
            when the file is not a complete gzip file though named so.
    """
    for number, line in decoded_lines(path, encoding):
        if line.strip():
            yield number, line.rstrip("\r\n")


def decoded_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line of a plain or gzipped file, with its line end.

    Raises:
        ValueError: as `read_lines`.
    """
    number = 0
    with _open(path) as file:
        try:
            if _encode_newline(encoding) == b"\n":
                # By bytes: only "\n" ends a line, and an error can name the line.
                for number, raw in enumerate(file, 1):
                    yield number, decode(raw, encoding, f"{path}, line {number}")
            else:  # UTF-16 and UTF-32, whose newline is more than one byte
                with io.TextIOWrapper(file, encoding, newline="\n") as lines:
                    for number, line in enumerate(lines, 1):
                        yield number, line.removeprefix("\ufeff")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a complete gzip file ({error})") from None
        except UnicodeError:
            raise ValueError(_not_text(f"{path}, after line {number}", encoding)) from None


def read_json_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the JSON object of each line.

    Raises:
        ValueError: when a line is not a JSON object.
    """
    for number, line in read_lines(path, encoding):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})"
            ) from None
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, line {number}: expected a JSON object, got {type(record).__name__}"
            )
        yield number, record


def read_table(
    path: Path, num_columns: int, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the columns of each row of a table.

    Columns are separated by tabs; in a .csv file by commas, and a quoted cell may contain commas
    and newlines.

    Args:
        path: of the table.
        num_columns: minimum number of columns.
        encoding: of the file.

    Raises:
        ValueError: when a row has fewer columns.
    """
    is_csv = ".csv" in path.suffixes
    for number, columns in (_csv_rows if is_csv else _tsv_rows)(path, encoding):
        if len(columns) < num_columns:
            raise ValueError(
                f"{path}, line {number}: expected {num_columns} columns separated by "
                f"{'commas' if is_csv else 'tabs'}, got {len(columns)}"
            )
        yield number, columns


def read_records(
    path: Path, *, header: bool = True, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the fields of each record, of JSON lines or of a table.

    Args:
        path: .jsonl, .json or .ndjson for JSON lines, .csv for a table with commas (with semicolons
            if its header has some and no comma), .parquet, .arrow or .feather for a columnar one,
            as Hugging Face's `datasets` writes, which is read in parts; any other suffix for a
            table with tabs. Text may be gzipped. Or the name of a data set of the Hub, see
            `HubName`.
        header: whether a table's first row names its columns; else they are "0", "1" and so on.
        encoding: of the file.

    Raises:
        ValueError: when a line is malformed; the message names it.
    """
    if is_hub_name(path):
        yield from enumerate(read_hub(path), 1)
        return
    if path.suffix in COLUMNAR:
        yield from enumerate(read_columnar(path), 1)
        return
    if is_json(path):
        yield from read_json_lines(path, encoding)
        return
    if not header:
        for number, columns in read_table(path, 1, encoding):
            yield number, {str(i): column for i, column in enumerate(columns)}
        return
    names: list[str] = []
    for number, columns in _rows_below_header(path, encoding):
        if not names:
            names = columns
        elif len(columns) != len(names):
            raise ValueError(
                f"{path}, line {number}: expected the header's {len(names)} columns, got "
                f"{len(columns)}"
            )
        else:
            yield number, dict(zip(names, columns, strict=True))


def _rows_below_header(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table and its header; the separator is inferred from the header."""
    if ".csv" not in path.suffixes:
        return _tsv_rows(path, encoding)
    header = next((line for _, line in read_lines(path, encoding)), "")
    return _csv_rows(path, encoding, ";" if ";" in header and "," not in header else ",")


def is_json(path: Path) -> bool:
    """Whether the suffix of a file is one of JSON lines."""
    return not is_hub_name(path) and not _JSON.isdisjoint(path.suffixes)


def get_field(record: dict[str, Any], name: str, path: Path, number: int) -> Any:
    """Return a field of the record of a line.

    Raises:
        ValueError: when the record has no such field, or when it is null.
    """
    if name not in record:
        raise ValueError(
            f"{path}, line {number}: there is no field {name!r}, only "
            f"{', '.join(map(repr, record)) or 'none'}"
        )
    if record[name] is None:
        raise ValueError(
            f"{path}, line {number}: the field {name!r} is null; fill it in, or remove the line"
        )
    return record[name]


def get_text(record: dict[str, Any], name: str, path: Path, number: int) -> str:
    """Return a field of the record of a line as text; numbers are converted.

    Raises:
        ValueError: when the record has no such field, or when it is not text.
    """
    value = get_field(record, name, path, number)
    if isinstance(value, list | dict):
        raise ValueError(
            f"{path}, line {number}: expected text in the field {name!r}, got "
            f"{'a list' if isinstance(value, list) else 'an object'}"
        )
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}, line {number}: the field {name!r} has an incomplete character at position "
            f"{error.start} (a lone surrogate); correct it, or remove the line"
        ) from None
    return text


def read_text_pairs(
    path: Path, first: str, second: str, encoding: str = "utf-8"
) -> Iterator[tuple[int, str, str]]:
    """Yield the line number and two fields of each record, as text.

    Args:
        path: see `read_records`.
        first, second: names of fields; two numbers are columns, from 0, of a table without header.
        encoding: of the file.

    Raises:
        ValueError: when a line is malformed or lacks a field; the message names it.
    """
    header = not (first.isdigit() and second.isdigit())
    for number, record in read_records(path, header=header, encoding=encoding):
        one, other = (get_text(record, name, path, number) for name in (first, second))
        yield number, one, other


def decode(raw: bytes, encoding: str, place: str) -> str:
    """Return bytes as text, without a byte order mark at their beginning.

    Args:
        raw: the bytes.
        encoding: of the bytes.
        place: file, and perhaps line, for the message.

    Raises:
        ValueError: when the bytes are not in the encoding, or when Python does not know it.
    """
    _encode_newline(encoding)
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeError:
        raise ValueError(_not_text(place, encoding)) from None


def _not_text(place: str, encoding: str) -> str:
    return (
        f"{place}: not {encoding} text; convert the file to UTF-8, or set `encoding` where the "
        "data has that setting"
    )


def _encode_newline(encoding: str) -> bytes:
    try:
        return "\n".encode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding: got {encoding!r}, expected one that Python knows, such as 'utf-8' or "
            "'latin-1'"
        ) from None


def _tsv_rows(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in read_lines(path, encoding))


def _csv_rows(path: Path, encoding: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    lines = (line for _, line in decoded_lines(path, encoding))
    rows = csv.reader(lines, delimiter=delimiter)
    number = 1  # of the row's first line; a quoted cell may extend over several
    try:
        for columns in rows:
            if any(map(str.strip, columns)):
                yield number, columns
            number = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {number}: not a row of a .csv file ({error})") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
