"""What identifies the runs of a command: all settings, with the content of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from graphformer.cli.config.arguments import split_options

_CONFIG = ("-c", "--config")
_ROOT = "--trainer.default_root_dir"


def runs_root(words: Sequence[str]) -> Path:
    """Return the folder of all runs of a command line."""
    return Path(dict(split_options(list(words))).get(_ROOT) or "runs")


def config_names(words: Sequence[str]) -> list[str]:
    """Return the names of the configuration files, without folder and suffix."""
    return [Path(v).stem for option, v in split_options(list(words)) if option in _CONFIG and v]


def inlined(words: Sequence[str]) -> list[str]:
    """Return options with the content of configuration files, and without the folder of runs.

    They mean the same on another machine, in another folder, and with other comments.
    """
    result: list[str] = []
    for option, value in split_options(list(words)):
        if option in _CONFIG and value is not None:
            content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            value = json.dumps(content, sort_keys=True, default=str)
        if option != _ROOT:
            result += [option] if value is None else [option, value]
    return result


def settings_key(settings: object) -> str:
    """Return a hash of what JSON can store."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
