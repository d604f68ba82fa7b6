"""JSON lines and tables of tab-separated columns; errors name the file and the line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from graphformer.data.files import MissingDataError, data_root


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

    Raises:
        ValueError: a line is not in the encoding, or the file is not gzip though named so.
    """
    with _open(path) as file:
        number = 0
        try:
            for number, raw in enumerate(file, 1):
                line = raw.decode(encoding).rstrip("\r\n")
                if line.strip():
                    yield number, line
        except UnicodeDecodeError:
            raise ValueError(
                f"{path}, line {number}: not {encoding} text; convert the file, or set encoding."
            ) from None
        except (gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}).") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of each line of JSON.

    Raises:
        ValueError: a line is not a JSON object.
    """
    for number, line in read_lines(path):
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

    Raises:
        ValueError: a line has fewer.
    """
    for number, line in read_lines(path, encoding):
        columns = line.split("\t")
        if len(columns) < num_columns:
            raise ValueError(
                f"{path}, line {number}: expected {num_columns} columns separated by tabs, got "
                f"{len(columns)}."
            )
        yield number, columns


def read_records(path: Path, *, header: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the fields: those of JSON lines, or the columns of a table.

    Args:
        path: .tsv for a table, perhaps .gz; anything else is JSON lines.
        header: whether a table's first line names its columns; else they are "0", "1" and so on.

    Raises ValueError naming the line that is not as it should be.
    """
    if ".tsv" not in path.suffixes:
        yield from read_json_lines(path)
        return
    if not header:
        for number, columns in read_table(path, 1):
            yield number, {str(i): column for i, column in enumerate(columns)}
        return
    names: list[str] = []
    for number, columns in read_table(path, 1):
        if not names:
            names = columns
        elif len(columns) != len(names):
            raise ValueError(
                f"{path}, line {number}: expected the header's {len(names)} columns, got "
                f"{len(columns)}."
            )
        else:
            yield number, dict(zip(names, columns, strict=True))


def field(record: dict[str, Any], name: str, path: Path, number: int) -> Any:
    """Return a field of a record.

    Raises:
        ValueError: the record has no such field.
    """
    if name not in record:
        raise ValueError(
            f"{path}, line {number}: there is no field {name!r}, only "
            f"{', '.join(map(repr, record)) or 'none'}."
        )
    return record[name]


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
