"""What a checkpoint says of its run, and which changes a resumed run could not honour."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml

from graphformer.cli.callbacks import CONFIG_KEY
from graphformer.cli.config.parser import Parser
from graphformer.cli.errors import UsageError
from graphformer.data import Tokenizer
from graphformer.data.text.tokenizer_training import restore_tokenizer
from graphformer.tasks import Task

# A resumed run takes these over; all other settings of model and data live on in its state.
_FREE = ("model.adjacency",)
_FREE_DATA = ("root", "path", "num_workers", "base_url")


def stored_config(path: Path, *, whole: bool) -> str:
    """The settings in a checkpoint as YAML: all of them, or those of model, data and seed.

    Raises:
        UsageError: the file is no checkpoint of this command.
    """
    try:
        # mmap: settings are wanted, not weights
        checkpoint: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=True
        )
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise UsageError(f"{path} is not a readable checkpoint: {_line(error)}") from error
    if CONFIG_KEY not in checkpoint:
        raise UsageError(f"{path} holds no settings: it was not written by `graphformer fit`")
    text = str(checkpoint[CONFIG_KEY])
    if whole:
        return text
    config = yaml.safe_load(text)
    return str(yaml.safe_dump({key: config[key] for key in ("seed_everything", "model", "data")}))


def check_resumable(stored: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Refuse settings that differ from the checkpoint's and would be ignored.

    Args:
        stored: the checkpoint's settings, flat: "model.init_args.lr" and so on.
        wanted: the settings of the resumed run.
        path: the checkpoint.

    Raises:
        UsageError: naming the settings.
    """
    changed = [
        f"{_short(key)} is {stored.get(key)!r} there, not {wanted.get(key)!r}"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key) and _is_fixed(_short(key))
    ]
    if changed:
        raise UsageError(
            f"a run resumed from {path} cannot change its settings: {'; '.join(changed)}. "
            "Drop the flags, or start a new run without --ckpt"
        )


def _is_fixed(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "data":
        return name not in _FREE_DATA
    return section in ("model", "seed_everything") and not key.startswith(_FREE)


def _short(key: str) -> str:
    return key.replace(".init_args", "").replace(".class_path", "")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:100]


def restore_task(path: Path) -> Task:
    """The task of a checkpoint, with its weights, ready to be evaluated.

    Raises:
        UsageError: the file is no checkpoint of this command.
    """
    settings = yaml.safe_load(stored_config(path, whole=False))["model"]
    parser = Parser()
    parser.add_subclass_arguments(Task, "model")
    task: Task = parser.instantiate_classes(parser.parse_object({"model": settings})).model
    task.configure_model()
    task.load_state_dict(_load(path)["state_dict"])
    return task.eval()


def restore_text_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the data that a checkpoint was trained on.

    Raises:
        UsageError: it was trained on data without one.
    """
    for state in _load(path).values():
        if isinstance(state, dict) and isinstance(state.get("tokenizer"), dict):
            return restore_tokenizer(state["tokenizer"])
    raise UsageError(f"{path} holds no tokenizer: it was not trained on a text")


def _load(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, map_location="cpu", weights_only=True))
