"""A trained task and its tokenizer, from a checkpoint alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from graphformer.cli.checkpoints import stored_config
from graphformer.cli.errors import UsageError
from graphformer.cli.parser import Parser
from graphformer.data import Tokenizer
from graphformer.data.vocabularies import restore_tokenizer
from graphformer.tasks import Task


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
