"""The settings that a sweep varies: `{model.lr: [1e-4, 1e-2, log], model.adjacency: [A, B]}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from optuna import Trial

Value = str | int | float | bool
_SCALES = ("log", "linear")


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def suggest(self, trial: Trial, name: str) -> Value:
        """Return the trial's value."""
        return cast(Value, trial.suggest_categorical(name, self.values))


@dataclass(frozen=True)
class Range:
    """A number between two others; integers if both are."""

    low: float
    high: float
    log: bool

    def suggest(self, trial: Trial, name: str) -> Value:
        """Return the trial's value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


Search = dict[str, Choice | Range]


def read_search(text: str) -> dict[str, list[Value]]:
    """Return setting -> list of a YAML mapping, or of a file that contains one.

    Raises:
        UsageError: when it is no mapping of settings to lists.
    """
    import yaml

    from graphformer.cli.config.yaml_limits import check_yaml

    file = Path(text)
    if "{" not in text and "\n" not in text:
        if not file.is_file():
            raise UsageError(f"--search: got {text!r}, expected '{{setting: [a, b]}}' or a file")
        text = file.read_text(encoding="utf-8")
    check_yaml(text, "--search")
    content = yaml.safe_load(text)
    if not isinstance(content, dict) or not content:
        raise UsageError(f"--search: got {text!r}, expected a mapping of settings to lists")
    return {str(name): _numbers(str(name), values) for name, values in content.items()}


def parse_search(content: Mapping[str, list[Value]]) -> Search:
    """Return setting -> what it varies over; a list that ends in "log" or "linear" is a range.

    Raises:
        UsageError: when a range is not two numbers, or on a log scale not positive.
    """
    return {name: _parse(name, values) for name, values in content.items()}


def grid(search: Search) -> list[dict[str, Value]]:
    """Return all combinations of the values.

    Raises:
        UsageError: when a setting has a range.
    """
    for name, dimension in search.items():
        if isinstance(dimension, Range):
            raise UsageError(f"--search {name}: got a range, expected values with --sampler grid")
    values = [dimension.values for dimension in search.values() if isinstance(dimension, Choice)]
    return [dict(zip(search, point, strict=True)) for point in product(*values)]


def _parse(name: str, values: list[Value]) -> Choice | Range:
    if values[-1] not in _SCALES or isinstance(values[-1], bool):
        return Choice(tuple(values))
    low, *rest = values[:-1]
    high = rest[0] if len(rest) == 1 else None
    is_log = values[-1] == "log"
    if (
        not isinstance(low, int | float)
        or not isinstance(high, int | float)
        or not low < high
        or (is_log and low <= 0)
    ):
        raise UsageError(
            f"--search {name}: got {values}, expected [low, high, {values[-1]}] with "
            f"{'0 < ' * is_log}low < high"
        )
    return Range(low, high, is_log)


def _numbers(name: str, values: object) -> list[Value]:
    """Return a list of plain values; YAML 1.1 reads 1e-4 as a text, which is a number here."""
    if not isinstance(values, list) or not values:
        raise UsageError(f"--search {name}: got {values!r}, expected a list of values")
    for value in values:
        if not isinstance(value, str | int | float | bool):
            raise UsageError(f"--search {name}: got {value!r}, expected texts and numbers")
    return [_number(value) for value in values]


def _number(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
