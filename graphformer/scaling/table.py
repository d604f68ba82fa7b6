"""Table of training runs: model size, training tokens, compute and final loss."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Column = Literal["N", "D", "C", "loss"]
Floats = NDArray[np.float64]

FLOPS_PER_TOKEN = 6.0
"""FLOPs of a training step per token and parameter: 2 forward, 4 backward."""
_ALIASES: dict[Column, tuple[str, ...]] = {
    "N": ("n", "params", "parameters", "num_params", "n_params", "model_size", "size"),
    "D": ("d", "tokens", "num_tokens", "training_tokens", "train_tokens", "tokens_trained"),
    "C": ("c", "flops", "flop", "training_flop", "training_flops", "train_flops", "compute"),
    "loss": ("loss", "l", "val/loss", "val_loss", "test/loss", "test_loss", "final_loss"),
}
_LEAST_SPREAD = 0.1  # standard deviation of log D among runs of one N, along the best power law


@dataclass(frozen=True)
class RunTable:
    """Training runs, one per position of the arrays [R].

    Attributes:
        N: parameters of the models.
        D: training tokens.
        C: training FLOPs.
        loss: final losses, in nats per token.
    """

    N: Floats
    D: Floats
    C: Floats
    loss: Floats

    @classmethod
    def build(
        cls,
        *,
        loss: ArrayLike,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        C: ArrayLike | None = None,
    ) -> RunTable:
        """Return a table from two or three of N, D and C; a missing one follows from C = 6 N D.

        Raises:
            ValueError: when fewer than two are given, or a value is not positive and finite.
        """
        given = {"N": N, "D": D, "C": C, "loss": loss}
        arrays = {k: np.asarray(v, dtype=float) for k, v in given.items() if v is not None}
        if len(arrays) < 3:
            names = ", ".join(sorted(arrays.keys() - {"loss"})) or "none"
            raise ValueError(f"table: got {names} of N, D and C, expected two; add a column")
        for name, array in arrays.items():
            if not bool(np.all(np.isfinite(array) & (array > 0))):
                raise ValueError(f"{name}: got a value that is not a positive finite number")
        if "N" not in arrays:
            arrays["N"] = arrays["C"] / (FLOPS_PER_TOKEN * arrays["D"])
        if "D" not in arrays:
            arrays["D"] = arrays["C"] / (FLOPS_PER_TOKEN * arrays["N"])
        if "C" not in arrays:
            arrays["C"] = FLOPS_PER_TOKEN * arrays["N"] * arrays["D"]
        return cls(**arrays)

    def __len__(self) -> int:
        return len(self.loss)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> RunTable:
        """Return some of the rows, by indices or by a mask."""
        return RunTable(self.N[rows], self.D[rows], self.C[rows], self.loss[rows])

    @property
    def flops_factor(self) -> float:
        """C / (N D), geometric mean: 6 if only matrix products of parameters are counted."""
        return float(np.exp(np.mean(np.log(self.C / (self.N * self.D)))))

    def check_determines(self, constants: int) -> None:
        """Check that a law of N and D with some constants can be fitted.

        Raises:
            ValueError: when there are too few runs, or when D increases with N along one power law:
                with one number of tokens per parameter, the exponents cannot be told apart. Runs of
                one budget have D ~ 1 / N, where the two terms have their minimum.
        """
        sizes = len(np.unique(self.N))
        if len(self) <= constants or sizes < 2 or len(np.unique(self.D)) < 2:
            raise ValueError(
                f"runs: got {len(self)} runs of {sizes} sizes, expected {constants + 1} or more of "
                "2 or more sizes and numbers of tokens; add runs"
            )
        log_n, log_d = np.log(self.N / self.N[0]), np.log(self.D)
        slope, constant = np.polyfit(log_n, log_d, 1)
        if slope > 0 and float(np.std(log_d - slope * log_n - constant)) < _LEAST_SPREAD:
            raise ValueError(
                "runs: got tokens that follow from the size, such as one ratio for all runs, "
                "expected several numbers of tokens per size; add runs"
            )


def read_table(
    path: str | os.PathLike[str], columns: Mapping[Column, str] | None = None
) -> RunTable:
    """Read a CSV file of runs with a head line.

    Args:
        path: the file.
        columns: names of columns in the file, for those that are not found by a usual name, such as
            "params", "tokens", "Training FLOP" or "val/loss".

    Raises:
        ValueError: when a column is missing or ambiguous, or a value is not a number.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"table: got no rows in {os.fspath(path)}, expected one line per run")
    names = _column_names(list(rows[0]), columns or {})
    if "loss" not in names:
        raise ValueError(
            f"loss: got the columns {', '.join(map(str, rows[0]))}, expected one of the loss; "
            "name it by columns"
        )
    values = {name: _numbers(rows, header) for name, header in names.items()}
    loss = values.pop("loss")
    return RunTable.build(loss=loss, **values)


def _column_names(header: Sequence[str], chosen: Mapping[Column, str]) -> dict[str, str]:
    """Return N, D, C, loss -> name in the file; a missing one is left out."""
    for name, column in chosen.items():
        if column not in header:
            raise ValueError(
                f"columns: got {name}={column!r}, expected one of {', '.join(map(str, header))}"
            )
    by_alias = {name.strip().lower().replace(" ", "_"): name for name in header if name}
    names = {str(kind): name for kind, name in chosen.items()}
    for kind, aliases in _ALIASES.items():
        found = [by_alias[alias] for alias in aliases if alias in by_alias]
        if kind in names or not found:
            continue
        if len(found) > 1:
            raise ValueError(
                f"{kind}: got the columns {' and '.join(found)}, expected one; name it by columns"
            )
        names[kind] = found[0]
    return names


def _numbers(rows: Sequence[Mapping[str, str]], header: str) -> list[float]:
    numbers = []
    for line, row in enumerate(rows, start=2):
        try:
            numbers.append(float(row[header]))
        except (TypeError, ValueError):
            numbers.append(math.nan)
        if math.isnan(numbers[-1]):
            raise ValueError(f"{header}: got {row[header]!r} in line {line}, expected a number")
    return numbers
