"""One training run of many, and the name of its result file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESULT = "result.json"


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        arguments: settings, as on a command line.
        fold: number of the fold; None for data without folds.
        seed: value of `seed_everything`.
        folder: folder of this run alone.
    """

    arguments: list[str]
    fold: int | None
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder, such as "fold3-seed0"."""
        return self.folder.name
