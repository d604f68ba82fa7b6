"""Prediction files: a table with a header and a row for each sample or node, or a tensor."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from graphformer.cli.errors import UsageError
from graphformer.cli.predictions import Rows
from graphformer.cli.run_dir import atomic_file, save_tensors
from graphformer.data.base import DataModule
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.out_of_core.npy import NpyWriter, memory_map
from graphformer.data.graph.own.tables import NodeNameList
from graphformer.data.text.base import TokenizedData
from graphformer.tasks import (
    Classification,
    LinkPrediction,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Task,
)

SUFFIXES = (".csv", ".parquet", ".jsonl", ".pt")
Table = dict[str, list[Any]]
"""Columns by name, all of one length."""


def check_format(path: Path) -> None:
    """Refuse the name of a prediction file that cannot be written.

    Raises:
        UsageError: when the suffix is unknown, the folder does not exist, or a library is missing.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--output {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError(
            f'--output {path}: Parquet needs pyarrow; pip install "graphformer[parquet]"'
        )


def write_predictions(
    task: Task, data: pl.LightningDataModule, path: Path, rows: Sequence[Rows]
) -> None:
    """Write the outputs of all samples, atomically: as a table, or as a tensor [rows, K] (.pt).

    Args:
        task: that computed them.
        data: whose names of samples and classes the table has.
        path: of the file.
        rows: the output of each sample.
    """
    output = torch.cat([part.output for part in rows]).float()
    output = output.reshape(len(output), -1)  # links have one logit each, [P]
    with atomic_file(path) as file:
        if path.suffix == ".pt":
            save_tensors(output, file)
        else:
            columns = {**_names(task, data, rows), **_values(task, data, output)}
            with ExitStack() as stack:
                _table_writer(path, file, stack)(columns)
    print(f"wrote {len(output)} rows to {path}")


@contextmanager
def open_predictions(
    task: Task, data: pl.LightningDataModule, path: Path
) -> Iterator[Callable[[Tensor, Tensor], None]]:
    """Open a file of predictions of nodes, which are written in parts, atomically.

    The function takes the numbers of nodes [n] and their outputs [n, K]. Memory is for one part; a
    tensor (.pt) is collected in another file.

    Args:
        task: that computes them.
        data: whose names of classes the table has.
        path: of the file.
    """
    count = 0
    with atomic_file(path) as file, ExitStack() as stack:
        if path.suffix == ".pt":
            write = _tensor_writer(path, file, stack)
        else:
            table = _table_writer(path, file, stack)

            def write(nodes: Tensor, output: Tensor) -> None:
                table({**_node_columns(data, nodes), **_values(task, data, output)})

        def append(nodes: Tensor, output: Tensor) -> None:
            nonlocal count
            count += len(nodes)
            write(nodes, output.float().flatten(1))

        yield append
    print(f"wrote {count} rows to {path}")


def _tensor_writer(
    path: Path, file: BinaryIO, stack: ExitStack
) -> Callable[[Tensor, Tensor], None]:
    """Return a function that collects outputs; the tensor is written when the stack is closed."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent)))
    collected: list[NpyWriter] = []

    def save(*error: object) -> None:
        for writer in collected:
            writer.__exit__(None, None, None)
            if error[0] is None:
                save_tensors(memory_map(writer.path), file)

    def write(nodes: Tensor, output: Tensor) -> None:
        if not collected:
            writer = NpyWriter(folder / "rows.npy", np.float32, tuple(output.shape[1:]))
            collected.append(writer.__enter__())
        collected[0].append(output.numpy())

    stack.push(save)
    return write


def _names(task: Task, data: pl.LightningDataModule, rows: Sequence[Rows]) -> Table:
    """Return what each row is: a file, a sample, a node of a sample, or an edge."""
    if isinstance(task, LinkPrediction) and isinstance(data, FullGraph) and data.graph is not None:
        source, target = data.graph[f"{task.predict_split}_edge_label_index"]
        return {"source": _node_names(data, source), "target": _node_names(data, target)}
    if getattr(task, "level", None) == "edge":
        return {"edge": list(range(sum(len(part.output) for part in rows)))}
    if len(rows) == 1 and rows[0].nodes is None and isinstance(data, FullGraph):  # all nodes
        return _node_columns(data, torch.arange(len(rows[0].output)))
    if len(rows) == 1 or all(len(part.output) == 1 for part in rows):
        # One graph, or nodes with their sampled neighbourhoods.
        nodes = [part.nodes for part in rows if part.nodes is not None]
        if len(nodes) == len(rows):
            return _node_columns(data, torch.cat(nodes))
    split = getattr(data, "predict_split", "test")
    names = data.sample_names(split) if isinstance(data, DataModule) else []
    numbers = data.sample_numbers(split) if isinstance(data, DataModule) else []
    if len(numbers) < len(rows):  # more with limit_predict_batches
        numbers = list(range(len(rows)))
    if all(len(part.output) == 1 for part in rows):
        if len(names) >= len(rows):
            return {"file": names[: len(rows)]}
        return {"sample": numbers[: len(rows)]}
    samples = [number for number, part in zip(numbers, rows, strict=False) for _ in part.output]
    own = [node for part in rows for node in _node_numbers(part)]
    return {"sample": samples, "node": own}


def _node_columns(data: pl.LightningDataModule, nodes: Tensor) -> Table:
    """Return the names of the nodes of one graph, and those of their types if there are some."""
    names = getattr(data, "node_names", None)
    types = names.read_types(nodes) if isinstance(names, NodeNameList) else None
    columns: Table = {"node": _node_names(data, nodes)}
    return columns if types is None else {"type": types, **columns}


def _node_names(data: pl.LightningDataModule, nodes: Tensor) -> list[Any]:
    """Return the names of nodes of one graph, their numbers if they have no names."""
    names = getattr(data, "node_names", None)
    return nodes.tolist() if names is None else names.read(nodes)


def _node_numbers(rows: Rows) -> list[int]:
    return list(range(len(rows.output))) if rows.nodes is None else rows.nodes.tolist()


def _values(task: Task, data: pl.LightningDataModule, output: Tensor) -> Table:
    """Return the columns of the output: class and probabilities, answers, or values."""
    if isinstance(task, QuestionAnswering) and isinstance(data, TokenizedData):
        probability, token = output.double().softmax(1).max(1)
        answers = [data.decode([number]) for number in token.tolist()]
        return {"answer": answers, "probability": probability.float().tolist()}
    names = class_names(data) or [str(number) for number in range(output.shape[1])]
    if isinstance(task, Classification):
        best = [names[number] for number in output.argmax(1).tolist()]
        return {"class": best, **_probabilities(names, output.double().softmax(1))}
    if isinstance(task, MultiLabelClassification):
        probabilities = output.double().sigmoid()
        chosen = (probabilities >= task.threshold).tolist()
        labels = [";".join(compress(names, row)) for row in chosen]
        return {"labels": labels, **_probabilities(names, probabilities)}
    if isinstance(task, LinkPrediction):
        return {"probability": output[:, 0].sigmoid().tolist()}
    word = "prediction" if isinstance(task, Regression) else "output"
    if output.shape[1] == 1:
        return {word: output[:, 0].tolist()}
    return {f"{word}_{number}": column for number, column in enumerate(output.T.tolist())}


def _probabilities(names: Sequence[str], probabilities: Tensor) -> Table:
    """Return a column for each class, of probabilities [rows, K]."""
    columns = probabilities.float().T.tolist()
    return {f"probability_{name}": column for name, column in zip(names, columns, strict=True)}


def class_names(data: object) -> list[str] | None:
    """Return the names of the classes, where the data have some: those of texts or of folders."""
    for attribute in ("labels", "class_names", "classes"):
        names = getattr(data, attribute, None)
        if isinstance(names, list) and names:
            return [str(name) for name in names]
    return None


def _table_writer(path: Path, file: BinaryIO, stack: ExitStack) -> Callable[[Table], None]:
    """Return a function that appends rows to a table; the stack closes it."""
    return _WRITERS[path.suffix](file, stack)


def _write_csv(file: BinaryIO, stack: ExitStack) -> Callable[[Table], None]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    stack.callback(text.detach)
    writer = csv.writer(text, lineterminator="\n")
    has_header = False

    def write(table: Table) -> None:
        nonlocal has_header
        if not has_header:
            writer.writerow(table)
            has_header = True
        writer.writerows(zip(*table.values(), strict=True))

    return write


def _write_json_lines(file: BinaryIO, stack: ExitStack) -> Callable[[Table], None]:
    def write(table: Table) -> None:
        for values in zip(*table.values(), strict=True):
            record = dict(zip(table, values, strict=True))
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())

    return write


def _write_parquet(file: BinaryIO, stack: ExitStack) -> Callable[[Table], None]:
    import pyarrow
    from pyarrow import parquet

    writer: Any = None

    def write(table: Table) -> None:
        nonlocal writer
        rows = pyarrow.table(table)
        if writer is None:
            writer = stack.enter_context(parquet.ParquetWriter(file, rows.schema))
        writer.write_table(rows)

    return write


_WRITERS: dict[str, Callable[[BinaryIO, ExitStack], Callable[[Table], None]]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
