"""`write_graph`, which writes a graph in chunks to a folder that `MemoryMappedGraph` maps."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.graph.out_of_core.edge_sort import EdgeSorter
from graphformer.data.graph.out_of_core.names import Texts, write_names
from graphformer.data.graph.out_of_core.npy import NpyWriter
from graphformer.data.graph.out_of_core.stores import HEADER, MemoryMappedGraph

SPLITS = ("train", "val", "test")
EdgeChunk = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Edges [2, e], sources above targets; perhaps with their attributes [e, ...]."""


class RandomSplit(NamedTuple):
    """Random splits of the labelled nodes: each is drawn by itself, in chunks."""

    val: float = 0.1
    """Probability that a node is for validation."""
    test: float = 0.2
    """Probability that a node is for testing."""
    seed: int = 0


RANDOM_SPLIT = RandomSplit()


def write_graph(
    folder: str | Path,
    *,
    num_nodes: int,
    edges: Iterable[EdgeChunk],
    fields: Mapping[str, Iterable[np.ndarray]],
    splits: Mapping[str, np.ndarray] | RandomSplit = RANDOM_SPLIT,
    undirected: bool = False,
    coalesce: bool = False,
    class_names: Sequence[str] = (),
    node_names: Iterable[Texts] | None = None,
) -> MemoryMappedGraph:
    """Write a graph to a folder, with memory for some chunks of it and for one number a node.

    The edges are sorted by target on disk, which needs 8 bytes an edge more while this runs. The
    folder appears when it is complete; an error leaves nothing.

    Args:
        folder: of the graph; it must not exist.
        num_nodes: N.
        edges: chunks of the edges, [2, e], sources above targets, nodes numbered from 0; or pairs
            of these and attributes [e, ...], which become the field `edge_attr`.
        fields: chunks of the fields of nodes, such as `x` [n, F] and `y` [n]; they are stored in
            the dtype of the first chunk, float64 as float32. Labels `y` are classes from 0 and
            `IGNORE_INDEX` for none, or real values.
        splits: labelled nodes of "train", "val" and "test", as numbers or masks; or random ones.
        undirected: add the edges in the other direction.
        coalesce: keep one of several edges with the same ends.
        class_names: of the classes of `y`.
        node_names: chunks of the names of the nodes.

    Returns:
        The graph.

    Raises:
        FileExistsError: when the folder exists.
        IndexError: when an edge names a node out of range.
        ValueError: when a field has another number of rows than N, a feature is NaN or infinite, a
            label is negative, or a split is empty.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"folder: got {folder}, which exists; remove it, or choose another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with _progress() as progress:
            writer = _Writer(partial, num_nodes, progress)
            for name, parts in fields.items():
                writer.write_field(name, parts)
            writer.write_splits(splits)
            writer.write_edges(edges, undirected=undirected, coalesce=coalesce)
            if node_names is not None:
                writer.write_names(node_names)
            writer.write_header(class_names)
        partial.chmod(0o755)  # temporary folders are readable by their owner only
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return MemoryMappedGraph(folder)


def _progress() -> Progress:
    """Return a line with what is being written, on a terminal only."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _Writer:
    """Writes the files of a graph, each in chunks."""

    def __init__(self, folder: Path, num_nodes: int, progress: Progress) -> None:
        if num_nodes < 1:
            raise ValueError(f"num_nodes: got {num_nodes}, expected 1 or more")
        self.folder, self.num_nodes, self.progress = folder, num_nodes, progress
        self.task = progress.add_task("")
        self.fields: list[str] = []
        self.splits: list[str] = []
        self.num_edges, self.num_classes, self.is_coalesced = 0, 0, True
        self.has_names = False

    def write_field(self, name: str, parts: Iterable[np.ndarray]) -> None:
        """Write a field of the nodes."""
        parts = iter(parts)
        first = np.asarray(next(parts, np.empty(0, np.float32)))
        path = self.folder / f"{name}.npy"
        with NpyWriter(path, _stored_dtype(first), first.shape[1:]) as file:
            for part in chain([first], parts):
                self._check_rows(name, part, file.rows)
                file.append(part)
                self._show(f"writing {name}: {file.rows:,} of {self.num_nodes:,} nodes")
        if file.rows != self.num_nodes:
            raise ValueError(
                f"{name}: got {file.rows} rows, expected {self.num_nodes}, one for each node"
            )
        self.fields.append(name)

    def write_splits(self, splits: Mapping[str, np.ndarray] | RandomSplit) -> None:
        """Write the labelled nodes of the splits."""
        if isinstance(splits, RandomSplit):
            self._draw_splits(splits)
            return
        for name, nodes in splits.items():
            numbers = np.flatnonzero(nodes) if nodes.dtype == bool else nodes.astype(np.int64)
            if not len(numbers) or numbers.min() < 0 or numbers.max() >= self.num_nodes:
                found = f"{len(numbers)} nodes" if not len(numbers) else f"node {numbers.max()}"
                raise ValueError(
                    f"splits: got {found} for {name}, expected some from 0 to {self.num_nodes - 1}"
                )
            np.save(self.folder / f"{name}.npy", numbers)
            self.splits.append(name)

    def write_edges(self, edges: Iterable[EdgeChunk], *, undirected: bool, coalesce: bool) -> None:
        """Sort the edges, and write their row starts, sources and attributes."""
        chunks = iter(edges)
        first = next(chunks, np.empty((2, 0), np.int64))
        row = first[1] if isinstance(first, tuple) else None
        sorter = EdgeSorter(
            self.folder / "sort",
            self.num_nodes,
            row_shape=None if row is None else row.shape[1:],
            dtype=None if row is None else _stored_dtype(row),
            coalesce=coalesce,
        )
        with sorter:
            for chunk in chain([first], chunks):
                edge_index, rows = chunk if isinstance(chunk, tuple) else (chunk, None)
                sorter.add(edge_index, rows)
                if undirected:
                    sorter.add(*_reversed(edge_index, rows))
                self._show(f"reading edges: {sorter.num_added:,}")
            self._write_sorted(sorter, row)
        self.is_coalesced = coalesce or not sorter.has_duplicates

    def _write_sorted(self, sorter: EdgeSorter, row: np.ndarray | None) -> None:
        fits = max(sorter.num_added, self.num_nodes) < 2**31
        dtype = np.int32 if fits else np.int64
        with ExitStack() as stack:
            indptr = stack.enter_context(NpyWriter(self.folder / "indptr.npy", dtype))
            indices = stack.enter_context(NpyWriter(self.folder / "indices.npy", dtype))
            attributes = None
            if row is not None:
                path = self.folder / "edge_attr.npy"
                attributes = stack.enter_context(NpyWriter(path, _stored_dtype(row), row.shape[1:]))
                self.fields.append("edge_attr")
            indptr.append(np.zeros(1, dtype))
            for part in sorter.parts():
                indptr.append(self.num_edges + part.degree.cumsum())
                indices.append(part.sources)
                if attributes is not None and part.attributes is not None:
                    attributes.append(part.attributes)
                self.num_edges += len(part.sources)
                self._show(f"sorting edges: {self.num_edges:,} of {sorter.num_added:,}")

    def write_names(self, parts: Iterable[Texts]) -> None:
        """Write the names of the nodes."""
        names = write_names(self.folder, parts)
        if len(names) != self.num_nodes:
            raise ValueError(
                f"node_names: got {len(names)}, expected {self.num_nodes}, one for each node"
            )
        self.has_names = True

    def write_header(self, class_names: Sequence[str]) -> None:
        """Write what the arrays do not tell."""
        if class_names and len(class_names) < self.num_classes:
            raise ValueError(
                f"class_names: got {len(class_names)}, expected {self.num_classes}, one for each "
                "class"
            )
        self.num_classes = len(class_names) or self.num_classes
        header = {
            "num_nodes": self.num_nodes,
            "num_edges": self.num_edges,
            "num_classes": self.num_classes,
            "is_coalesced": self.is_coalesced,
            "fields": self.fields,
            "splits": self.splits,
            "class_names": list(class_names),
            "has_names": self.has_names,
        }
        (self.folder / HEADER).write_text(json.dumps(header, indent=2) + "\n")

    def _check_rows(self, name: str, rows: np.ndarray, first: int) -> None:
        """Refuse features that are not finite and negative labels; count the classes."""
        if rows.dtype.kind == "f":
            is_wrong = ~np.isfinite(rows).reshape(len(rows), -1).all(1)
            if is_wrong.any():
                raise ValueError(
                    f"{name}: got NaN or an infinite value at node {first + is_wrong.argmax()}, "
                    "expected finite numbers; replace missing values"
                )
        elif name == "y" and len(rows):
            labelled = rows[rows != IGNORE_INDEX]
            if len(labelled) and labelled.min() < 0:
                raise ValueError(
                    f"y: got the label {labelled.min()}, expected classes from 0, or "
                    f"{IGNORE_INDEX} for a missing label; renumber the classes"
                )
            highest = int(labelled.max()) if len(labelled) else -1
            self.num_classes = max(self.num_classes, highest + 1)

    def _draw_splits(self, split: RandomSplit) -> None:
        if not (split.val > 0 and split.test > 0 and split.val + split.test < 1):
            raise ValueError(
                f"splits: got val {split.val} and test {split.test}, expected both above 0 and a "
                "sum below 1"
            )
        generator = np.random.default_rng(split.seed)
        y = np.load(self.folder / "y.npy", mmap_mode="r") if "y" in self.fields else None
        with ExitStack() as stack:
            files = [
                stack.enter_context(NpyWriter(self.folder / f"{name}.npy", np.int64))
                for name in SPLITS
            ]
            for start in range(0, self.num_nodes, 1 << 20):
                stop = min(start + (1 << 20), self.num_nodes)
                draw = generator.random(stop - start)
                which = np.select([draw < split.val, draw < split.val + split.test], [1, 2], 0)
                if y is not None and y.dtype.kind != "f":
                    which[y[start:stop] == IGNORE_INDEX] = -1
                for number, file in enumerate(files):
                    file.append(start + np.flatnonzero(which == number))
        for name, file in zip(SPLITS, files, strict=True):
            if not file.rows:
                raise ValueError(f"splits: got no nodes for {name}, expected some; change splits")
        self.splits = list(SPLITS)

    def _show(self, text: str) -> None:
        self.progress.update(self.task, description=text)


def _stored_dtype(rows: np.ndarray) -> np.dtype:
    """Return the dtype of a field on disk: that of its rows, float32 instead of float64."""
    return np.dtype(np.float32) if rows.dtype == np.float64 else rows.dtype


def _reversed(
    edge_index: np.ndarray, rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the edges in the other direction, without loops, which are their own reverse."""
    is_loop = edge_index[0] == edge_index[1]
    return edge_index[::-1, ~is_loop], None if rows is None else rows[~is_loop]
