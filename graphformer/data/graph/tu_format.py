"""Checks of raw files in the format of the TU Dortmund collection.

PyG reads them without checks: a blank line or a missing row ends in an error that names no file, or
shifts the rows of all later graphs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

_ROWS_OF = {
    "edge": ("edge_labels", "edge_attributes"),
    "node": ("node_labels", "node_attributes"),
    "graph": ("graph_labels", "graph_attributes"),
}


def check_tu_files(raw: Path, name: str) -> None:
    """Check that the files `raw`/`name`_*.txt are numeric tables that fit together.

    `A` has a row (source, target) for each edge, nodes counted from 1, and `graph_indicator` the
    graph of each node, counted from 1 and ascending. The other files have a row for each edge, node
    or graph.

    Raises:
        ValueError: naming the file, and the line where there is one.
    """
    edges = _read_table(raw / f"{name}_A.txt", columns=2).astype(np.int64)
    indicator = _read_table(raw / f"{name}_graph_indicator.txt", columns=1)[:, 0].astype(np.int64)
    _check_indicator(raw / f"{name}_graph_indicator.txt", indicator)
    _check_edges(raw / f"{name}_A.txt", edges, indicator)
    counts = {"edge": len(edges), "node": len(indicator), "graph": int(indicator[-1])}
    for rows_of, endings in _ROWS_OF.items():
        for ending in endings:
            file = raw / f"{name}_{ending}.txt"
            if file.is_file() and (rows := len(_read_table(file))) != counts[rows_of]:
                raise ValueError(
                    f"{file}: got {rows:,} rows, expected {counts[rows_of]:,}, one for each "
                    f"{rows_of}; restore the file"
                )


def _read_table(file: Path, columns: int | None = None) -> np.ndarray:
    """Return the numbers of a comma-separated file, float64 [rows, columns]."""
    content = file.read_bytes()
    try:
        table = np.loadtxt(file, delimiter=",", comments=None, ndmin=2) if content else None
    except ValueError as error:
        raise ValueError(
            f"{file}: got a line that is no row of numbers ({error}), expected numbers separated "
            "by commas; correct it"
        ) from None
    if table is None or not len(table):
        raise ValueError(f"{file}: got an empty file, expected rows of numbers; restore it")
    if columns is not None and table.shape[1] != columns:
        raise ValueError(
            f"{file}: got {table.shape[1]} columns, expected {columns}; restore the file"
        )
    # loadtxt skips blank lines, which PyG does not, and PyG drops a last line without newline.
    if content.count(b"\n") != len(table):
        lines = content.split(b"\n")
        blank = [number for number, line in enumerate(lines[:-1], 1) if not line.strip()]
        fault = f"a blank line {blank[0]}" if blank else "a last line without newline"
        raise ValueError(
            f"{file}: got {fault}, expected a newline after each row and no blank line; correct it"
        )
    return table


def _check_indicator(file: Path, indicator: np.ndarray) -> None:
    steps = np.diff(indicator)
    if indicator[0] != 1 or steps.min(initial=0) < 0 or steps.max(initial=0) > 1:
        raise ValueError(
            f"{file}: got graph numbers that are not 1, 2, ... in ascending order, expected the "
            "graph of each node, counted from 1; sort the nodes by graph"
        )


def _check_edges(file: Path, edges: np.ndarray, indicator: np.ndarray) -> None:
    if edges.min() < 1 or edges.max() > len(indicator):
        wrong = edges.min() if edges.min() < 1 else edges.max()
        raise ValueError(
            f"{file}: got node {wrong}, expected nodes from 1 to {len(indicator)}; correct the edge"
        )
    across = indicator[edges[:, 0] - 1] != indicator[edges[:, 1] - 1]
    if across.any():
        raise ValueError(
            f"{file}: got an edge between two graphs in line {int(across.argmax()) + 1}, expected "
            "edges inside graphs; correct it"
        )
