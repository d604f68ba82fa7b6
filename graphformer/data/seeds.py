"""The seed of the run, for data sets that are to be split anew with each."""

from __future__ import annotations

import os


def run_seed() -> int:
    """The seed that `lightning.pytorch.seed_everything` was given last; 0 if it was not called."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
