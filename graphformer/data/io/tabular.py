"""JSON lines and tables with columns; errors name the file and the line."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from graphformer.data.io.cache import MissingDataError, data_root

_JSON = frozenset((".jsonl", ".json", ".ndjson"))


def find_file(path: str | os.PathLike[str], root: str | None) -> Path:
    """Return a file as it stands, or under the data root.

    Raises:
        MissingDataError: it is in neither place.
    """
    found = Path(path).expanduser()
    under_root = data_root(root) / path
    for place in (found, under_root):
        if place.is_file():
            return place
    raise MissingDataError(
        f"There is neither a file {found.absolute()} nor {under_root.absolute()}: put the data "
        "there, or set root or the variable GRAPHFORMER_DATA to where it is."
    )


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line that is not blank, of a plain or gzipped file.

    A mark of the byte order, which some editors put first, is left out.

    Raises:
        ValueError: a line is not in the encoding, there is no such encoding, or the file is not
            gzip though named so.
    """
    for number, line in _decoded(path, encoding):
        if line.strip():
            yield number, line.rstrip("\r\n")


def read_json_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of each line of JSON.

    Raises:
        ValueError: a line is not a JSON object.
    """
    for number, line in read_lines(path, encoding):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})."
            ) from None
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, line {number}: expected a JSON object, got {type(record).__name__}."
            )
        yield number, record


def read_table(
    path: Path, num_columns: int, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the columns of each line, at least `num_columns` of them.

    They are separated by tabs, in a .csv by commas, where what is in quotes may have commas and
    newlines.

    Raises:
        ValueError: a line has fewer.
    """
    comma = ".csv" in path.suffixes
    for number, columns in (_commas if comma else _tabs)(path, encoding):
        if len(columns) < num_columns:
            raise ValueError(
                f"{path}, line {number}: expected {num_columns} columns separated by "
                f"{'commas' if comma else 'tabs'}, got {len(columns)}."
            )
        yield number, columns


def read_records(
    path: Path, *, header: bool = True, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the fields: those of JSON lines, or the columns of a table.

    Args:
        path: .jsonl, .json or .ndjson for JSON lines, .csv for a table with commas; anything else
            is one with tabs. All of them perhaps .gz.
        header: whether a table's first line names its columns; else they are "0", "1" and so on.
        encoding: of the file.

    Raises ValueError naming the line that is not as it should be.
    """
    if is_json(path):
        yield from read_json_lines(path, encoding)
        return
    if not header:
        for number, columns in read_table(path, 1, encoding):
            yield number, {str(i): column for i, column in enumerate(columns)}
        return
    names: list[str] = []
    for number, columns in read_table(path, 1, encoding):
        if not names:
            names = columns
        elif len(columns) != len(names):
            raise ValueError(
                f"{path}, line {number}: expected the header's {len(names)} columns, got "
                f"{len(columns)}."
            )
        else:
            yield number, dict(zip(names, columns, strict=True))


def is_json(path: Path) -> bool:
    """Whether a file is one of JSON lines, by its name."""
    return not _JSON.isdisjoint(path.suffixes)


def field(record: dict[str, Any], name: str, path: Path, number: int) -> Any:
    """Return a field of a record.

    Raises:
        ValueError: the record has no such field, or it is null.
    """
    if name not in record:
        raise ValueError(
            f"{path}, line {number}: there is no field {name!r}, only "
            f"{', '.join(map(repr, record)) or 'none'}."
        )
    if record[name] is None:
        raise ValueError(
            f"{path}, line {number}: the field {name!r} is null: fill it in, or leave the line out."
        )
    return record[name]


def text_field(record: dict[str, Any], name: str, path: Path, number: int) -> str:
    """Return a field of a record as a text; numbers are written out.

    Raises:
        ValueError: the record has no such field, or it is no text.
    """
    value = field(record, name, path, number)
    if isinstance(value, list | dict):
        raise ValueError(
            f"{path}, line {number}: expected a text in the field {name!r}, got "
            f"{'a list' if isinstance(value, list) else 'an object'}."
        )
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}, line {number}: the field {name!r} has half of a character at place "
            f"{error.start} (a lone surrogate): mend it, or leave the line out."
        ) from None
    return text


def text_fields(
    path: Path, first: str, second: str, encoding: str = "utf-8"
) -> Iterator[tuple[int, str, str]]:
    """Yield the line number and two fields of each record, as texts.

    Args:
        path: see `read_records`.
        first, second: names of fields; two numbers are columns, from 0, of a table without header.
        encoding: of the file.

    Raises ValueError naming the line that is not as it should be.
    """
    header = not (first.isdigit() and second.isdigit())
    for number, record in read_records(path, header=header, encoding=encoding):
        one, other = (text_field(record, name, path, number) for name in (first, second))
        yield number, one, other


def decode(raw: bytes, encoding: str, place: str) -> str:
    """Return the text of bytes, without a mark of the byte order, which some editors put first.

    Raises:
        ValueError: the bytes at that place are not in the encoding, or there is no such encoding.
    """
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ValueError(
            f"{place}: not {encoding} text; convert the file to UTF-8, or set the data's encoding."
        ) from None
    except LookupError:
        raise ValueError(
            f"encoding is {encoding!r}, which is none that Python knows: give 'utf-8', 'latin-1' "
            "or another."
        ) from None


def _decoded(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The number and text of each line, line ends and all."""
    with _open(path) as file:
        number = 0
        try:
            for number, raw in enumerate(file, 1):
                yield number, decode(raw, encoding, f"{path}, line {number}")
        except (gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}).") from None


def _tabs(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in read_lines(path, encoding))


def _commas(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(line for _, line in _decoded(path, encoding))
    number = 1  # of the row's first line: what is in quotes may go on over several
    try:
        for columns in rows:
            if any(map(str.strip, columns)):
                yield number, columns
            number = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {number}: no row of a .csv ({error}).") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
