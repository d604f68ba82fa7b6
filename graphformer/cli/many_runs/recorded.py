"""Settings and results of finished and running runs, read from their folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import RESULT

Value = str | int | float | bool | None
_LOWER_IS_BETTER = ("loss", "perplexity", "error", "mae", "mse", "bits", "ece")
_NOT_COMPARED = ("trainer.default_root_dir", "trainer.callbacks", "trainer.logger")


@dataclass(frozen=True)
class Recorded:
    """One run.

    Attributes:
        name: path of its folder, relative to the folder that was searched.
        settings: short name, such as "model.lr" or "model.network.dim" -> value.
        results: metric -> last value, or that of the best checkpoint for the metrics of a test.
    """

    name: str
    settings: dict[str, Value]
    results: dict[str, float]


def lower_is_better(metric: str) -> bool:
    """Whether a metric, such as "val/loss", improves as it decreases, by its name."""
    return metric.rpartition("/")[2].endswith(_LOWER_IS_BETTER)


def find_runs(root: Path) -> list[Recorded]:
    """Return the runs in a folder and all folders below it, by path.

    Raises:
        UsageError: when there is no folder or no run in it.
    """
    if not root.is_dir():
        raise UsageError(f"runs: there is no folder {root}")
    files = sorted(root.rglob("config.yaml"))
    if not files:
        raise UsageError(f"runs: got no run below {root}, expected folders with a config.yaml")
    return [read_run(file.parent, root) for file in files]


def read_run(folder: Path, root: Path | None = None) -> Recorded:
    """Return the run of a folder, wherever it was when it was trained.

    Raises:
        UsageError: when the folder has no readable settings.
    """
    import yaml

    from graphformer.cli.config.yaml_limits import check_yaml

    file = folder / "config.yaml"
    if not file.is_file():
        raise UsageError(f"runs: {folder} has no config.yaml, expected the folder of a run")
    text = file.read_bytes()
    check_yaml(text, str(file))
    config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    name = str(folder if root is None else folder.relative_to(root))
    settings = dict(_flatten("", config))
    for key in _NOT_COMPARED:
        settings.pop(key, None)
    return Recorded(name, settings, _results(folder))


def differing(runs: Sequence[Recorded]) -> list[str]:
    """Return the settings that do not have the same value in all runs; a missing one is None."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({_hashable(run.settings.get(key)) for run in runs}) > 1]


def metric_names(runs: Sequence[Recorded]) -> list[str]:
    """Return all metrics of the runs: of the test, the validation and the training."""
    names = {name for run in runs for name in run.results}
    order = ("test/", "val/", "train/")
    return sorted(
        names, key=lambda n: (next((i for i, p in enumerate(order) if n.startswith(p)), 3), n)
    )


def _hashable(value: Value) -> tuple[str, Value]:
    return (type(value).__name__ if isinstance(value, bool) else "", value)


def _flatten(prefix: str, content: object) -> Iterator[tuple[str, Value]]:
    """Yield name -> value; "class_path" is the name above it, and "init_args" is left out."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            is_implied = key in ("class_path", "init_args")
            yield from _flatten(prefix if is_implied else f"{prefix}.{key}".strip("."), value)
    elif isinstance(content, str) or content is None or isinstance(content, bool | int | float):
        yield prefix, content
    else:
        yield prefix, json.dumps(content, default=str)


def _results(folder: Path) -> dict[str, float]:
    """Return the last value of each column of `metrics.csv`, and those of `result.json`."""
    results: dict[str, float] = {}
    metrics = folder / "metrics.csv"
    if metrics.is_file():
        with metrics.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                results.update(_numbers(row))
    file_of_test = folder / RESULT
    if file_of_test.is_file():
        result = json.loads(file_of_test.read_text(encoding="utf-8"))
        results.update({**result["best"], **result["metrics"]})
    return results


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    numbers = {}
    for name, text in row.items():
        if name in ("step", "epoch") or not text:
            continue
        try:
            numbers[name] = float(text)
        except ValueError:  # the last line of a run that is being written
            continue
    return numbers
