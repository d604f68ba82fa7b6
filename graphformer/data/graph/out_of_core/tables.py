"""Converter of tables of nodes and edges (.csv, .tsv, perhaps .gz, or .parquet), by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.out_of_core.names import NameIndex, Texts, write_names
from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph
from graphformer.data.graph.out_of_core.writer import (
    RANDOM_SPLIT,
    SPLITS,
    EdgeChunk,
    RandomSplit,
    write_graph,
)
from graphformer.data.io.tabular import find_file
from graphformer.data.label_sets import sort_labels

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch, Schema
    from pyarrow.csv import CSVStreamingReader

_ROWS = 1 << 20


def convert_tables(
    folder: str | Path,
    *,
    nodes: str | Path,
    edges: str | Path,
    id: str | None = None,
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

    Nodes are numbered by their rows in the table of nodes, from 0. With `id` the edges refer to
    them by names, and so do tables of predictions; memory is for 8 to 16 bytes a node more.

    Args:
        folder: of the graph; it must not exist.
        nodes, edges: the tables.
        id: column of nodes with their names, texts or integers; None if the edges have numbers.
        label: column of nodes with classes from 0, names of classes, or real values; an empty cell
            is no label. Names of classes are sorted.
        source, target: columns of edges with the numbers or names of their ends.
        features: columns of numbers that are the features, float32; None for all columns of
            numbers that are not named otherwise.
        edge_features: columns of edges that become `edge_attr`.
        split: column of nodes with train, val or test, other cells for none; None for
            `random_split`.
        undirected, coalesce: as in `write_graph`.

    Raises:
        MissingDataError: when a file is missing.
        ModuleNotFoundError: without pyarrow.
        ValueError: when a column is missing, a cell is no number, two nodes have one name, or
            an edge names no node.
    """
    node_file, edge_file = find_file(nodes, None), find_file(edges, None)
    other = [label, *(name for name in (id, split) if name is not None)]
    _check_columns(node_file, [*other, *(features or ())])
    _check_columns(edge_file, [source, target, *edge_features])
    if features is None:
        features = _numeric_columns(node_file, other)
    if not features:
        raise ValueError(f"{node_file}: got no columns of numbers, expected features; add some")
    num_nodes, given = _count_and_split(node_file, label, split)
    classes = _class_names(node_file, label)

    def x() -> Iterator[np.ndarray]:
        for batch in _batches(node_file, features):
            yield _matrix(batch, features, node_file)

    def y() -> Iterator[np.ndarray]:
        for batch in _batches(node_file, [label]):
            yield _label_column(batch, label, classes, node_file)

    def edge_chunks(index: NameIndex | None) -> Iterator[EdgeChunk]:
        texts = [] if index is None else [source, target]
        for batch in _batches(edge_file, [source, target, *edge_features], texts=texts):
            ends = np.stack([_nodes(batch, name, index, edge_file) for name in (source, target)])
            yield (ends, _matrix(batch, edge_features, edge_file)) if edge_features else ends

    with _node_index(Path(folder), node_file, id) as index:
        return write_graph(
            folder,
            num_nodes=num_nodes,
            edges=edge_chunks(index),
            fields={"x": x(), "y": y()},
            splits=random_split if given is None else given,
            undirected=undirected,
            coalesce=coalesce,
            class_names=classes,
            node_names=None if index is None else [index.names.texts],
        )


@contextmanager
def _node_index(folder: Path, file: Path, id: str | None) -> Iterator[NameIndex | None]:
    """Return the numbers of the nodes by their names, which are in files beside `folder`."""
    if id is None:
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        parts = (_texts(batch, id, file) for batch in _batches(file, [id], texts=[id]))
        names = write_names(Path(temporary), parts)
        try:
            index = NameIndex(names)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        yield index


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
            cells = _strings(batch.column(0))
            values = np.asarray([text.strip().lower() for text in cells.to_pylist()])
            for name in SPLITS:
                found[name].append(count + np.flatnonzero(values == name))
        count += len(batch)
    if split is None:
        return count, None
    return count, {name: np.concatenate(parts) for name, parts in found.items()}


def _class_names(file: Path, label: str) -> list[str]:
    """Return the sorted names of the classes, none if the labels are numbers."""
    import pyarrow as pa

    kind = _schema(file).field(label).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return []
    found: set[str] = set()
    for batch in _batches(file, [label]):
        found.update(_strings(batch.column(0)).unique().to_pylist())
    return sort_labels(found - {""})


def _label_column(batch: RecordBatch, label: str, classes: Sequence[str], file: Path) -> np.ndarray:
    import pyarrow as pa
    from pyarrow import compute

    column = batch.column(label)
    if classes:
        names = pa.array(classes, pa.large_string())
        numbers = compute.index_in(_strings(column), names)
        return np.asarray(numbers.fill_null(IGNORE_INDEX), np.int64)
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


def _nodes(batch: RecordBatch, name: str, index: NameIndex | None, file: Path) -> np.ndarray:
    """Return the nodes in a column of edges, int64 [e]."""
    import pyarrow as pa

    if index is not None:
        try:
            return index.find(_texts(batch, name, file))
        except ValueError as error:
            raise ValueError(f"{file}: in the column {name!r} {error}") from None
    column = batch.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(
            f"{file}: got {column.type} with {column.null_count} empty cells in the column "
            f"{name!r}, expected numbers of nodes from 0; number the nodes by their rows, or set id"
        )
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _strings(column: Array) -> Array:
    """Return a column as texts; that of an empty cell is empty."""
    import pyarrow as pa

    return column.cast(pa.large_string()).fill_null("")


def _texts(batch: RecordBatch, name: str, file: Path) -> Texts:
    """Return the names in a column.

    Raises:
        ValueError: when a cell is empty.
    """
    column = _strings(batch.column(name))
    _, starts, text = column.buffers()
    first, size = column.offset, len(column)
    found = Texts(
        np.frombuffer(b"" if text is None else text, np.uint8),
        np.frombuffer(starts, np.int64)[first : first + size + 1],
    )
    if (np.diff(found.starts) == 0).any():
        raise ValueError(f"{file}: got an empty cell in the column {name!r}, expected a name")
    return found


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


def _batches(
    file: Path, names: Sequence[str], *, texts: Sequence[str] = ()
) -> Iterator[RecordBatch]:
    """Yield the rows of a table in chunks, the named columns only; `texts` of a .csv as texts."""
    _require_pyarrow(file)
    if file.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(file, memory_map=True) as table:
            yield from table.iter_batches(_ROWS, columns=list(names))
        return
    yield from _csv_batches(file, header=True, names=names, texts=texts)


def _csv_batches(
    file: Path, *, header: bool, names: Sequence[str] | None = None, texts: Sequence[str] = ()
) -> Iterator[RecordBatch]:
    with _open_csv(file, header=header, names=names, texts=texts) as reader:
        yield from reader


@contextmanager
def _open_csv(
    file: Path, *, header: bool, names: Sequence[str] | None = None, texts: Sequence[str] = ()
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
                csv.ConvertOptions(
                    include_columns=None if names is None else list(names),
                    column_types=dict.fromkeys(texts, pa.large_string()),
                ),
            )
    except pa.ArrowInvalid as error:
        line = str(error).partition("\n")[0]
        raise ValueError(f"{file}: got a table that cannot be read ({line})") from None


def _require_pyarrow(file: Path) -> None:
    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            f'{file}: tables of stored graphs need pyarrow; pip install "graphformer[parquet]"'
        )
