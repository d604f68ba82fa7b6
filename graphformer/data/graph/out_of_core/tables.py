"""Converter of tables of nodes and edges (.csv, .tsv, perhaps .gz, or .parquet), by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph
from graphformer.data.graph.out_of_core.writer import (
    RANDOM_SPLIT,
    SPLITS,
    EdgeChunk,
    RandomSplit,
    write_graph,
)
from graphformer.data.io.tabular import find_file

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema
    from pyarrow.csv import CSVStreamingReader

_ROWS = 1 << 20


def convert_tables(
    folder: str | Path,
    *,
    nodes: str | Path,
    edges: str | Path,
    label: str = "label",
    source: str = "source",
    target: str = "target",
    features: Sequence[str] | None = None,
    edge_features: Sequence[str] = (),
    split: str | None = None,
    random_split: RandomSplit = RANDOM_SPLIT,
    undirected: bool = False,
    coalesce: bool = False,
) -> MemoryMappedGraph:
    """Write a graph of two tables with headers to a folder, in chunks; see `write_graph`.

    Nodes are numbered by their rows in the table of nodes, from 0.

    Args:
        folder: of the graph; it must not exist.
        nodes, edges: the tables.
        label: column of nodes with classes from 0, or real values; an empty cell is no label.
        source, target: columns of edges with the numbers of their ends.
        features: columns of numbers that are the features, float32; None for all columns of
            numbers that are not named otherwise.
        edge_features: columns of edges that become `edge_attr`.
        split: column of nodes with train, val or test; None for `random_split`.
        undirected, coalesce: as in `write_graph`.

    Raises:
        MissingDataError: when a file is missing.
        ModuleNotFoundError: without pyarrow.
        ValueError: when a column is missing, or a cell is no number.
    """
    node_file, edge_file = find_file(nodes, None), find_file(edges, None)
    _check_columns(node_file, [label, *(features or ()), *([split] if split else [])])
    _check_columns(edge_file, [source, target, *edge_features])
    if features is None:
        features = _numeric_columns(node_file, [label, *([split] if split else [])])
    if not features:
        raise ValueError(f"{node_file}: got no columns of numbers, expected features; add some")
    num_nodes, given = _count_and_split(node_file, label, split)

    def x() -> Iterator[np.ndarray]:
        for batch in _batches(node_file, features):
            yield _matrix(batch, features, node_file)

    def y() -> Iterator[np.ndarray]:
        for batch in _batches(node_file, [label]):
            yield _label_column(batch, label, node_file)

    def edge_chunks() -> Iterator[EdgeChunk]:
        for batch in _batches(edge_file, [source, target, *edge_features]):
            ends = np.stack([_integers(batch, name, edge_file) for name in (source, target)])
            yield (ends, _matrix(batch, edge_features, edge_file)) if edge_features else ends

    return write_graph(
        folder,
        num_nodes=num_nodes,
        edges=edge_chunks(),
        fields={"x": x(), "y": y()},
        splits=random_split if given is None else given,
        undirected=undirected,
        coalesce=coalesce,
    )


def csv_arrays(path: Path) -> Iterator[np.ndarray]:
    """Yield the numbers of a .csv file without a header, perhaps .gz, in chunks [n, columns]."""
    for batch in _csv_batches(path, header=False):
        columns = [batch.column(i).to_numpy(zero_copy_only=False) for i in range(batch.num_columns)]
        yield np.stack(columns, axis=1)


def _count_and_split(
    file: Path, label: str, split: str | None
) -> tuple[int, dict[str, np.ndarray] | None]:
    """Return the number of nodes, and the nodes of each split if there is a column of them."""
    count = 0
    found: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for batch in _batches(file, [split or label]):
        if split is not None:
            values = np.asarray(batch.column(0).to_pylist(), dtype=object)
            for name in SPLITS:
                found[name].append(count + np.flatnonzero(values == name))
        count += len(batch)
    if split is None:
        return count, None
    return count, {name: np.concatenate(parts) for name, parts in found.items()}


def _label_column(batch: RecordBatch, label: str, file: Path) -> np.ndarray:
    import pyarrow as pa

    column = batch.column(label)
    if pa.types.is_integer(column.type):
        return np.asarray(column.fill_null(IGNORE_INDEX).to_numpy(zero_copy_only=False), np.int64)
    if pa.types.is_floating(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)
    raise ValueError(
        f"{file}: got {column.type} with {column.null_count} empty cells in the column {label!r}, "
        "expected classes from 0 or real values; number the classes"
    )


def _matrix(batch: RecordBatch, names: Sequence[str], file: Path) -> np.ndarray:
    """Return columns of numbers as float32 [n, columns]; an empty cell is NaN."""
    import pyarrow as pa

    for name in names:
        kind = batch.column(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ValueError(f"{file}: got {kind} in the column {name!r}, expected numbers")
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
    return np.stack([column.astype(np.float32) for column in columns], axis=1)


def _integers(batch: RecordBatch, name: str, file: Path) -> np.ndarray:
    import pyarrow as pa

    column = batch.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(
            f"{file}: got {column.type} with {column.null_count} empty cells in the column "
            f"{name!r}, expected numbers of nodes from 0; number the nodes by their rows"
        )
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _numeric_columns(file: Path, other: Sequence[str]) -> list[str]:
    import pyarrow as pa

    return [
        field.name
        for field in _schema(file)
        if field.name not in other
        and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    ]


def _check_columns(file: Path, names: Sequence[str]) -> None:
    found = _schema(file).names
    missing = next((name for name in names if name not in found), None)
    if missing is not None:
        raise ValueError(
            f"{file}: got no column {missing!r}, expected one of {', '.join(found)}; name it"
        )


def _schema(file: Path) -> Schema:
    """Return the columns of a table and their types, those of a .csv as its beginning has them."""
    _require_pyarrow(file)
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_schema(file)
    with _open_csv(file, header=True) as reader:
        return reader.schema


def _batches(file: Path, names: Sequence[str] | None) -> Iterator[RecordBatch]:
    """Yield the rows of a table in chunks, the named columns only."""
    _require_pyarrow(file)
    if file.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(file, memory_map=True) as table:
            yield from table.iter_batches(_ROWS, columns=None if names is None else list(names))
        return
    yield from _csv_batches(file, header=True, names=names)


def _csv_batches(
    file: Path, *, header: bool, names: Sequence[str] | None = None
) -> Iterator[RecordBatch]:
    with _open_csv(file, header=header, names=names) as reader:
        yield from reader


@contextmanager
def _open_csv(
    file: Path, *, header: bool, names: Sequence[str] | None = None
) -> Iterator[CSVStreamingReader]:
    _require_pyarrow(file)
    import pyarrow as pa
    from pyarrow import csv

    separator = "\t" if ".tsv" in file.suffixes else ","
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            yield csv.open_csv(
                stream,
                csv.ReadOptions(autogenerate_column_names=not header, use_threads=False),
                csv.ParseOptions(delimiter=separator),
                csv.ConvertOptions(include_columns=None if names is None else list(names)),
            )
    except pa.ArrowInvalid as error:
        line = str(error).partition("\n")[0]
        raise ValueError(f"{file}: got a table that cannot be read ({line})") from None


def _require_pyarrow(file: Path) -> None:
    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            f'{file}: tables of stored graphs need pyarrow; pip install "graphformer[parquet]"'
        )
