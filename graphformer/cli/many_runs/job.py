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
        seed: value of `seed_everything`; None for that of the settings.
        folder: folder of this run alone.
    """

    arguments: list[str]
    fold: int | None
    seed: int | None
    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder, such as "fold3-seed0"."""
        return self.folder.name

    @property
    def point(self) -> dict[str, int]:
        """Values of the trial in the study."""
        values = {"fold": self.fold, "seed": self.seed}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker process gets.

    Attributes:
        storage: URL of the study's storage.
        name: of the study.
        folder: of the runs of this worker.
        threads: number of threads.
    """

    storage: str
    name: str
    folder: Path
    threads: int


def job_name(fold: int | None, seed: int) -> str:
    """Return the name of the folder of a fold and seed."""
    return f"seed{seed}" if fold is None else f"fold{fold}-seed{seed}"
