"""Prediction files: a table with a header and a row for each sample or node, or a tensor."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO

import lightning.pytorch as pl
import torch
from torch import Tensor

from graphformer.cli.errors import UsageError
from graphformer.cli.predictions import Rows
from graphformer.cli.run_dir import atomic_file, save_tensors
from graphformer.data.base import DataModule
from graphformer.tasks import Classification, MultiLabelClassification, Regression, Task

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
    output = torch.cat([part.output for part in rows]).float().flatten(1)
    with atomic_file(path) as file:
        if path.suffix == ".pt":
            save_tensors(output, file)
        else:
            columns = {**_names(task, data, rows), **_values(task, data, output)}
            _WRITERS[path.suffix](columns, file)
    print(f"wrote {len(output)} rows to {path}")


def _names(task: Task, data: pl.LightningDataModule, rows: Sequence[Rows]) -> Table:
    """Return what each row is: a file, a sample, a node of a sample, or an edge."""
    if getattr(task, "level", None) == "edge":
        return {"edge": list(range(sum(len(part.output) for part in rows)))}
    if len(rows) == 1 or all(len(part.output) == 1 for part in rows):
        # One graph, or nodes with their sampled neighbourhoods.
        numbers = [part.nodes for part in rows if part.nodes is not None]
        if len(numbers) == len(rows):
            return {"node": torch.cat(numbers).tolist()}
    if all(len(part.output) == 1 for part in rows):
        split = getattr(data, "predict_split", "test")
        names = data.sample_names(split) if isinstance(data, DataModule) else []
        if len(names) >= len(rows):  # fewer rows with limit_predict_batches
            return {"file": names[: len(rows)]}
        return {"sample": list(range(len(rows)))}
    samples = [i for i, part in enumerate(rows) for _ in range(len(part.output))]
    nodes = [node for part in rows for node in _node_numbers(part)]
    return {"sample": samples, "node": nodes}


def _node_numbers(rows: Rows) -> list[int]:
    return list(range(len(rows.output))) if rows.nodes is None else rows.nodes.tolist()


def _values(task: Task, data: pl.LightningDataModule, output: Tensor) -> Table:
    """Return the columns of the output: class and probabilities, or values."""
    names = class_names(data) or [str(number) for number in range(output.shape[1])]
    if isinstance(task, Classification):
        best = [names[number] for number in output.argmax(1).tolist()]
        return {"class": best, **_probabilities(names, output.double().softmax(1))}
    if isinstance(task, MultiLabelClassification):
        probabilities = output.double().sigmoid()
        chosen = (probabilities >= task.threshold).tolist()
        labels = [";".join(compress(names, row)) for row in chosen]
        return {"labels": labels, **_probabilities(names, probabilities)}
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


def _write_csv(table: Table, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    text.detach()


def _write_json_lines(table: Table, file: BinaryIO) -> None:
    for values in zip(*table.values(), strict=True):
        record = dict(zip(table, values, strict=True))
        file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())


def _write_parquet(table: Table, file: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(table), file)


_WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}
