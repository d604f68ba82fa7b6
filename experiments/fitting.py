"""What the experiments of several runs share: `graphformer fit`, answers, means and spreads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from graphformer.cli import main as graphformer

FOLDER = Path(__file__).parent


def fit(experiment: str, flags: Sequence[str], seed: int, runs: Path) -> tuple[Path, float]:
    """The folder of a run of an experiment's file, and its seconds of processor time."""
    begin = time.process_time()
    command = ["fit", "-c", str(FOLDER / experiment), *flags, "--seed_everything", str(seed)]
    if graphformer([*command, "--trainer.default_root_dir", str(runs)]) != 0:
        raise RuntimeError(f"failed: graphformer {' '.join(command)}")
    seconds = time.process_time() - begin
    started = (runs / Path(experiment).stem).iterdir()
    return max(started, key=lambda path: path.stat().st_mtime) / "checkpoints", seconds


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean, and the standard deviation of several values."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
