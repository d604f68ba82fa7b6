"""Tables of nodes and edges (.csv, .tsv, .jsonl, .parquet) as columns of text or numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.tabular import find_file, read_records
from graphformer.ops.common import notice

Columns = dict[str, list[Any]]
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
"""Cells without a value, in lower case."""


@dataclass(frozen=True)
class NodeNameList:
    """The names of the nodes of a graph, in memory.

    Attributes:
        names: name of each node, or its number within its type.
        types: name of the type of each node; None for a graph with one type.
    """

    names: Sequence[str] | Sequence[int]
    types: Sequence[str] | None = None

    def read(self, nodes: Tensor) -> list[str] | list[int]:
        """Return the names of some nodes [n]."""
        return [self.names[node] for node in nodes.tolist()]

    def read_types(self, nodes: Tensor) -> list[str] | None:
        """Return the names of the types of some nodes [n]; None for a graph with one type."""
        return None if self.types is None else [self.types[node] for node in nodes.tolist()]


def read_columns(
    path: str | os.PathLike[str], root: str | None, encoding: str = "utf-8"
) -> Columns:
    """Return the columns of a table by name; those of text files are strings.

    Raises:
        MissingDataError: when there is no such file.
        ValueError: when a row is malformed, or the table has none.
        ModuleNotFoundError: when Parquet is read without pyarrow.
    """
    file = find_file(path, root)
    records = [record for _, record in read_records(file, encoding=encoding)]
    if not records:
        raise ValueError(f"{file}: got no rows, expected a header and rows; fill it in")
    return {name: [record.get(name) for record in records] for name in records[0]}


def column(columns: Columns, name: str, file: str) -> list[Any]:
    """Return a column.

    Raises:
        ValueError: when there is no such column.
    """
    if name not in columns:
        raise ValueError(
            f"{file}: got no column {name!r}, expected one of {', '.join(columns)}; name another"
        )
    return columns[name]


def node_numbers(nodes: Columns, id: str | None, file: str) -> dict[str, int]:
    """Return the number of each node by its name in the column `id`, or by its row number.

    Raises:
        ValueError: when there is no such column, or a name is repeated.
    """
    count = len(next(iter(nodes.values())))
    names = list(map(str, range(count) if id is None else column(nodes, id, file)))
    index = {name: number for number, name in enumerate(names)}
    if len(index) != count:
        repeated = Counter(names).most_common(1)[0][0]
        raise ValueError(
            f"{file}: got a repeated {id}, {repeated!r}, expected another for each node; remove "
            "one of its rows, or rename it"
        )
    return index


def edge_ends(
    edges: Columns, source: str, target: str, nodes: Mapping[str, int], file: str
) -> Tensor:
    """Return `edge_index` [2, E] of the columns with the names of the edges' nodes.

    Raises:
        ValueError: when there is no such column, or a name of no node.
    """
    ends = []
    for name in (source, target):
        values = list(map(str, column(edges, name, file)))
        missing = next((value for value in values if value not in nodes), None)
        if missing is not None:
            raise ValueError(
                f"{file}: got the node {missing!r} in the column {name!r}, expected one of the "
                "table of nodes; add it there, or remove the edge"
            )
        ends.append([nodes[value] for value in values])
    return torch.tensor(ends)


def numbers(
    values: Sequence[Any], name: str, file: str, dtype: type[np.floating] = np.float32
) -> Tensor:
    """Return the values of a column as numbers [n], float32 by default.

    Raises:
        ValueError: when one is no number; the message names its row.
    """
    found = np.empty(len(values), dtype=dtype)
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{file}: got {value!r} in row {row + 1} of the column {name!r}, expected a "
                "number; correct it, or encode the column as categories"
            ) from None
    return torch.from_numpy(found)


def is_missing(value: Any) -> bool:
    """Whether a cell has no value: it is empty, null, NaN or a usual text for these."""
    return value is None or str(value).strip().lower() in _MISSING


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether a column has numbers, or text of numbers, and nothing else but missing values."""
    given = [value for value in values if not is_missing(value)]
    try:
        [float(value) for value in given]
    except (TypeError, ValueError):
        return False
    return bool(given)


def find_categories(
    columns: Columns, names: Sequence[str], known: Mapping[str, list[str]], file: str
) -> dict[str, list[str]]:
    """Return the categories of columns, sorted as text; for a known column those that are known.

    Raises:
        ValueError: when there is no such column.
    """
    texts = {name: {_category(v) for v in column(columns, name, file)} for name in names}
    return {name: list(known.get(name) or sorted(found)) for name, found in texts.items()}


def one_hot(values: Sequence[Any], kinds: Sequence[str], name: str, file: str) -> Tensor:
    """Return the values of a column as float32 [n, kinds].

    Raises:
        ValueError: when one is not among the kinds; the message names its row.
    """
    numbers = {kind: number for number, kind in enumerate(kinds)}
    for row, value in enumerate(values):
        if _category(value) not in numbers:
            raise ValueError(
                f"{file}: got {_category(value)!r} in row {row + 1} of the column {name!r}, "
                f"expected one of the categories of training, {list(kinds)}; correct it, or train "
                "with it"
            )
    index = torch.tensor([numbers[_category(value)] for value in values])
    return torch.nn.functional.one_hot(index, len(kinds)).float()


def _category(value: Any) -> str:
    return "" if value is None else str(value)


def features(
    columns: Columns, names: Sequence[str] | None, categories: Mapping[str, Sequence[str]],
    file: str, *, other: Sequence[str],
) -> Tensor | None:  # fmt: skip
    """Return columns as features [n, F]: numbers, then categories, one-hot; None without any.

    Args:
        columns: of the table.
        names: of the columns of numbers; None for all that are numbers. What is left out then is
            reported.
        categories: of each column that is encoded, see `find_categories`.
        file: name of the table, for messages.
        other: columns that are no features.

    Raises:
        ValueError: when there is no such column, or a cell of one is no number or category.
    """
    if names is None:
        rest = [name for name in columns if name not in {*other, *categories}]
        names = [name for name in rest if is_numeric(columns[name])]
        unused = [name for name in rest if name not in names]
        if unused:
            notice(
                f"{file}: no features, because they are no numbers: {', '.join(unused)}; encode "
                "them to use them, by `categories` where the data has that setting"
            )
    parts = [_feature(column(columns, name, file), name, file) for name in names]
    parts += [
        one_hot(column(columns, name, file), kinds, name, file)
        for name, kinds in categories.items()
    ]
    return torch.cat(parts, dim=1) if parts else None


def _feature(values: Sequence[Any], name: str, file: str) -> Tensor:
    """Return a column of finite numbers [n, 1]."""
    found = numbers(values, name, file)
    if not found.isfinite().all():
        row = int(found.isfinite().logical_not().nonzero()[0])
        raise ValueError(
            f"{file}: got {values[row]!r} in row {row + 1} of the column {name!r}, expected a "
            "finite number; correct it, or encode the column as categories"
        )
    return found[:, None]
