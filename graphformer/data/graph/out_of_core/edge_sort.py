"""Sorting of edges that do not fit in memory: an external distribution sort by target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from typing_extensions import Self

_BUCKETS = 256
_CHUNK = 1 << 21  # edges that are divided among the buckets at once
_PART = 1 << 23  # edges that are sorted at once, unless one node has more


class SortedEdges(NamedTuple):
    """The edges into a range of consecutive targets, ordered by target, then source."""

    degree: np.ndarray
    """Number of edges into each target, int64 [m]."""
    sources: np.ndarray
    """Source of each edge, int64 [e]."""
    attributes: np.ndarray | None
    """Attributes of each edge, [e, ...]."""


class EdgeSorter:
    """Sorts edges by target, then source, with memory for some chunks of them; a context manager.

    `add` divides the edges among files, each for a range of targets; `parts` sorts one file after
    the other, or a part of it if it is large. Beside these, memory is for the degrees of a range.

    Args:
        folder: for the temporary files, 8 bytes an edge and the attributes.
        num_nodes: N.
        row_shape, dtype: of the attributes of an edge; None without attributes.
        coalesce: keep one of several edges with the same ends, the one that was added first.

    Source: Knuth, The Art of Computer Programming, volume 3, section 5.4.9 (external sorting by
    distribution).
    """

    def __init__(
        self,
        folder: Path,
        num_nodes: int,
        *,
        row_shape: tuple[int, ...] | None = None,
        dtype: np.dtype | None = None,
        coalesce: bool = False,
    ) -> None:
        self.folder, self.num_nodes, self.coalesce = folder, num_nodes, coalesce
        self.row_shape, self.dtype = row_shape, dtype
        self.width = max(1, -(-num_nodes // _BUCKETS))
        self.counts = np.zeros(_BUCKETS, np.int64)
        self.num_added = 0
        self.has_duplicates = False
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._keys = [self._create(self._path("keys", b)) for b in range(_BUCKETS)]
        if self.row_shape is not None:
            self._rows = [self._create(self._path("rows", b)) for b in range(_BUCKETS)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    def add(self, edge_index: np.ndarray, attributes: np.ndarray | None = None) -> None:
        """Add edges, sources above targets, [2, e], with attributes [e, ...] if the sorter has any.

        Raises:
            ValueError: when `edge_index` has another shape or no integers, or there are more or
                fewer attributes than edges.
            IndexError: when a node is out of range.
        """
        self._check(edge_index, attributes)
        for start in range(0, edge_index.shape[1], _CHUNK):
            stop = start + _CHUNK
            rows = None if attributes is None else np.asarray(attributes[start:stop])
            source, target = np.asarray(edge_index[:, start:stop]).astype(np.int64)
            self._check_range(source, target)
            self._distribute(source, target, rows)

    def parts(self) -> Iterator[SortedEdges]:
        """Yield the sorted edges of consecutive ranges of targets, all nodes from 0 to N - 1."""
        for file in (*self._keys, *(self._rows if self.row_shape is not None else ())):
            file.flush()
        for bucket in range(_BUCKETS):
            first = bucket * self.width
            size = min(self.width, self.num_nodes - first)
            if size > 0:
                for start, stop in self._ranges(bucket, size):
                    yield self._sort(bucket, start, stop)

    def _distribute(self, source: np.ndarray, target: np.ndarray, rows: np.ndarray | None) -> None:
        bucket = (target // self.width).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")  # a radix sort, for bytes
        # A key orders the edges of a bucket by target, then source.
        keys = ((target % self.width) * self.num_nodes + source)[order]
        sizes = np.bincount(bucket, minlength=_BUCKETS)
        stops = sizes.cumsum()
        for number in sizes.nonzero()[0]:
            part = slice(stops[number] - sizes[number], stops[number])
            self._keys[number].write(keys[part].data)
            if rows is not None:
                self._rows[number].write(np.ascontiguousarray(rows[order[part]], self.dtype).data)
        self.counts += sizes
        self.num_added += len(source)

    def _ranges(self, bucket: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of the targets of a bucket with edges for one sort, first and last + 1."""
        if self.counts[bucket] <= _PART:
            yield 0, size
            return
        degree = np.zeros(size, np.int64)
        for keys, _ in self._read(bucket):
            degree += np.bincount(keys // self.num_nodes, minlength=size)
        before, start = np.concatenate([[0], degree.cumsum()]), 0
        while start < size:
            stop = int(np.searchsorted(before, before[start] + _PART, side="right")) - 1
            stop = min(max(stop, start + 1), size)
            yield start, stop
            start = stop

    def _sort(self, bucket: int, start: int, stop: int) -> SortedEdges:
        low, high = start * self.num_nodes, stop * self.num_nodes
        found = [
            (keys[chosen], None if rows is None else rows[chosen])
            for keys, rows in self._read(bucket)
            for chosen in [(keys >= low) & (keys < high)]
        ]
        keys = np.concatenate([part for part, _ in found] or [np.empty(0, np.int64)])
        rows = None
        if self.row_shape is None:
            keys.sort()
        else:
            order = np.argsort(keys, kind="stable")
            parts = [part for _, part in found if part is not None]
            empty = np.empty((0, *self.row_shape), self.dtype)
            keys, rows = keys[order], np.concatenate(parts or [empty])[order]
        is_new = np.ones(len(keys), np.bool_)
        is_new[1:] = keys[1:] != keys[:-1]
        if not is_new.all():
            self.has_duplicates = True
            if self.coalesce:
                keys, rows = keys[is_new], None if rows is None else rows[is_new]
        target, source = np.divmod(keys, self.num_nodes)
        return SortedEdges(np.bincount(target - start, minlength=stop - start), source, rows)

    def _read(self, bucket: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the keys of a bucket, and the attributes, in chunks."""
        width = int(np.prod(self.row_shape or (), dtype=np.int64))
        with ExitStack() as stack:
            keys = stack.enter_context(self._path("keys", bucket).open("rb"))
            rows = None
            if self.row_shape is not None:
                rows = stack.enter_context(self._path("rows", bucket).open("rb"))
            while len(part := np.fromfile(keys, np.int64, _CHUNK)):
                if rows is None or self.row_shape is None:
                    yield part, None
                else:
                    read = np.fromfile(rows, self.dtype or np.float32, len(part) * width)
                    yield part, read.reshape(len(part), *self.row_shape)

    def _path(self, name: str, bucket: int) -> Path:
        return self.folder / f"{name}{bucket}"

    def _create(self, path: Path):  # type: ignore[no-untyped-def]
        return self._open.enter_context(path.open("wb"))

    def _check(self, edge_index: np.ndarray, attributes: np.ndarray | None) -> None:
        if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype.kind not in "iu":
            raise ValueError(
                f"edges: got {edge_index.dtype} {edge_index.shape}, expected integers [2, E], "
                "sources above targets"
            )
        has_rows = attributes is not None
        if has_rows != (self.row_shape is not None) or (
            attributes is not None and len(attributes) != edge_index.shape[1]
        ):
            rows = "none" if attributes is None else len(attributes)
            raise ValueError(
                f"edge_attr: got {rows} rows for {edge_index.shape[1]} edges, expected one for "
                "each edge in all chunks, or none at all"
            )

    def _check_range(self, source: np.ndarray, target: np.ndarray) -> None:
        for name, nodes in (("source", source), ("target", target)):
            if len(nodes) and not (0 <= nodes.min() and nodes.max() < self.num_nodes):
                wrong = nodes.min() if nodes.min() < 0 else nodes.max()
                raise IndexError(
                    f"edges: got the {name} {wrong}, expected nodes from 0 to "
                    f"{self.num_nodes - 1}; number the nodes from 0"
                )
