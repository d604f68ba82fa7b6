"""One training run of several, and the name of its result file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESULT = "result.json"


@dataclass(frozen=True)
class Job:
    """One training run: its settings, fold and seed, and the folder that is its own."""

    arguments: list[str]
    fold: int | None
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name
