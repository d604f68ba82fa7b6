"""Converters of arrays: numpy's, in memory or mapped, and OGB's files, without the package ogb."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.out_of_core.npy import chunks
from graphformer.data.graph.out_of_core.stores import MemoryMappedGraph
from graphformer.data.graph.out_of_core.tables import csv_arrays
from graphformer.data.graph.out_of_core.writer import (
    RANDOM_SPLIT,
    EdgeChunk,
    RandomSplit,
    write_graph,
)
from graphformer.data.io.cache import MissingDataError

_ROWS = 1 << 20


def convert_arrays(
    folder: str | Path,
    *,
    edge_index: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    edge_attr: np.ndarray | None = None,
    splits: Mapping[str, np.ndarray] | RandomSplit = RANDOM_SPLIT,
    undirected: bool = False,
    coalesce: bool = False,
) -> MemoryMappedGraph:
    """Write a graph of numpy arrays, which may be memory maps, to a folder; see `write_graph`.

    Args:
        folder: of the graph; it must not exist.
        edge_index: sources above targets, [2, E].
        x: features [N, F].
        y: labels [N].
        edge_attr: attributes of the edges, [E, ...].
        splits, undirected, coalesce: as in `write_graph`.
    """

    def edges() -> Iterator[EdgeChunk]:
        for start in range(0, edge_index.shape[1], _ROWS):
            part = slice(start, start + _ROWS)
            ends = edge_index[:, part]
            yield ends if edge_attr is None else (ends, edge_attr[part])

    return write_graph(
        folder,
        num_nodes=len(x),
        edges=edges(),
        fields={"x": chunks(x), "y": chunks(y)},
        splits=splits,
        undirected=undirected,
        coalesce=coalesce,
    )


def convert_ogb(
    folder: str | Path, source: str | Path, *, undirected: bool = False, coalesce: bool = False
) -> MemoryMappedGraph:
    """Write a data set of nodes of OGB, as its package stores it, to a folder.

    `source` has `raw/`, either with tables (`edge.csv.gz`, `node-feat.csv.gz`,
    `node-label.csv.gz`, `num-node-list.csv.gz`), which are read by pyarrow, or with arrays
    (`data.npz`, `node-label.npz`); and `split/NAME/` with `train.csv.gz`, `valid.csv.gz` and
    `test.csv.gz`. Without features `x` is 1.

    Args:
        folder: of the graph; it must not exist.
        source: the data set's folder, such as `dataset/ogbn_products`.
        undirected: add the edges in the other direction, as OGB does for ogbn-products and
            ogbn-proteins.
        coalesce: as in `write_graph`.

    Raises:
        MissingDataError: when a file is missing.
        ValueError: when the folder has several graphs or several kinds of splits.

    Source: Hu et al., 2020, "Open Graph Benchmark".
    """
    raw = Path(source) / "raw"
    binary = (raw / "data.npz").is_file()
    num_nodes = _num_nodes(raw, binary)
    read = _npz_columns if binary else _csv_columns
    x = read(raw, "node_feat") or [np.ones((num_nodes, 1), np.float32)]
    labels = read(raw, "node_label")
    if labels is None:
        raise MissingDataError(f"{raw}: got no node labels, expected node-label.csv.gz or .npz")
    return write_graph(
        folder,
        num_nodes=num_nodes,
        edges=_npz_edges(raw) if binary else _csv_edges(raw),
        fields={"x": x, "y": map(_labels, labels)},
        splits=_splits(Path(source) / "split"),
        undirected=undirected,
        coalesce=coalesce,
    )


def _labels(rows: np.ndarray) -> np.ndarray:
    """Return labels [n] as integers, missing ones (NaN) as `IGNORE_INDEX`; several as floats."""
    if rows.ndim == 2 and rows.shape[1] > 1:
        return rows.astype(np.float32)
    column = rows.reshape(len(rows))
    if column.dtype.kind == "f":
        return np.where(np.isnan(column), IGNORE_INDEX, column).astype(np.int64)
    return column.astype(np.int64)


def _single_precision(rows: np.ndarray) -> np.ndarray:
    """Return real numbers of a table as float32, as OGB does."""
    return rows.astype(np.float32) if rows.dtype.kind == "f" else rows


def _num_nodes(raw: Path, binary: bool) -> int:
    if binary:
        counts = np.concatenate(list(npz_rows(raw / "data.npz", "num_nodes_list")))
    else:
        counts = np.concatenate(list(csv_arrays(_require(raw / "num-node-list.csv.gz"))))
    if counts.size != 1:
        raise ValueError(f"{raw}: got {counts.size} graphs, expected one, with labelled nodes")
    return int(counts.reshape(()))


def _csv_columns(raw: Path, name: str) -> Iterable[np.ndarray] | None:
    path = raw / f"{name.replace('_', '-')}.csv.gz"
    return map(_single_precision, csv_arrays(path)) if path.is_file() else None


def _csv_edges(raw: Path) -> Iterator[EdgeChunk]:
    edges = csv_arrays(_require(raw / "edge.csv.gz"))
    features = raw / "edge-feat.csv.gz"
    if not features.is_file():
        yield from (part.T for part in edges)
        return
    rows = _Rebatched(map(_single_precision, csv_arrays(features)))
    for part in edges:
        yield part.T, rows.take(len(part))


class _Rebatched:
    """Rows of chunks, taken in other numbers."""

    def __init__(self, parts: Iterator[np.ndarray]) -> None:
        self.parts, self.rest = parts, next(parts)

    def take(self, count: int) -> np.ndarray:
        """Return the next `count` rows, fewer at the end."""
        while len(self.rest) < count and (part := next(self.parts, None)) is not None:
            self.rest = np.concatenate([self.rest, part])
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


def _npz_columns(raw: Path, name: str) -> Iterable[np.ndarray] | None:
    path = raw / ("node-label.npz" if name == "node_label" else "data.npz")
    with zipfile.ZipFile(_require(path)) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
    return npz_rows(path, name)


def _npz_edges(raw: Path) -> Iterator[EdgeChunk]:
    edges = npz_rows(raw / "data.npz", "edge_index", columns=True)
    rows = _npz_columns(raw, "edge_feat")
    features = None if rows is None else _Rebatched(iter(rows))
    for part in edges:
        yield part if features is None else (part, features.take(part.shape[1]))


def npz_rows(path: Path, name: str, *, columns: bool = False) -> Iterator[np.ndarray]:
    """Yield an array of an .npz file in chunks of rows, [n, ...]; with `columns` of [2, n].

    The array is decompressed in chunks; it is never in memory as a whole.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        shape, by_column, dtype = _read_header(file)
        if not columns or by_column:  # [2, E] by columns has the bytes of [E, 2] by rows
            if by_column and not columns and len(shape) > 1:
                raise ValueError(f"{path}: got {name} in Fortran's order, expected C's order")
            count, row = (shape[1], shape[:1]) if columns else (shape[0], shape[1:])
            for rows in _stream(file, dtype, count, row):
                yield rows.T if columns else rows
            return
        with archive.open(f"{name}.npy") as second:
            _read_header(second)
            second.seek(shape[1] * dtype.itemsize, 1)
            pairs = (_stream(each, dtype, shape[1], ()) for each in (file, second))
            yield from map(np.stack, zip(*pairs, strict=True))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)


def _stream(
    file: IO[bytes], dtype: np.dtype, count: int, row: tuple[int, ...]
) -> Iterator[np.ndarray]:
    size = dtype.itemsize * int(np.prod(row, dtype=np.int64))
    for start in range(0, count, _ROWS):
        rows = min(_ROWS, count - start)
        yield np.frombuffer(file.read(rows * size), dtype).reshape(rows, *row)


def _splits(folder: Path) -> dict[str, np.ndarray]:
    kinds = sorted(path for path in folder.glob("*") if path.is_dir())
    if len(kinds) != 1:
        raise ValueError(
            f"{folder}: got {len(kinds)} folders of splits, expected one; remove the others"
        )
    files = {"train": "train", "val": "valid", "test": "test"}
    return {
        split: np.concatenate(list(csv_arrays(_require(kinds[0] / f"{name}.csv.gz")))).reshape(-1)
        for split, name in files.items()
    }


def _require(path: Path) -> Path:
    if not path.is_file():
        raise MissingDataError(f"there is no file {path}; download the data set again by ogb")
    return path
