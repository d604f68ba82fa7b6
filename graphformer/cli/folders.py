"""A folder for each run, never one that is there already."""

from __future__ import annotations

import os
from datetime import datetime
from itertools import count
from pathlib import Path

_INHERITED = "GRAPHFORMER_RUN_FOLDER"


def make_run_folder(root: str | os.PathLike[str], experiment: str) -> Path:
    """Make `root/experiment/<date>-<time>`, with a number behind it if that exists.

    The processes that a distributed run starts share the folder of the first one.
    """
    if "LOCAL_RANK" in os.environ and _INHERITED in os.environ:
        return Path(os.environ[_INHERITED])
    parent = Path(root) / experiment
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()  # fails if another process was quicker
        except FileExistsError:
            continue
        break
    os.environ[_INHERITED] = str(folder)
    return folder
