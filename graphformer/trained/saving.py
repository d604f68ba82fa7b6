"""Trained models as folders of checkpoint, settings and model card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from graphformer.cli.run_dir import save_tensors
from graphformer.models.exportable import Exportable
from graphformer.patterns import Pattern
from graphformer.patterns.serialization import Learned, pattern_config
from graphformer.pretrained.hub import OWN_FILES
from graphformer.pretrained.saving import complete_folder
from graphformer.tasks.stored_settings import CONFIG_KEY
from graphformer.trained.card import Facts, trained_card

_OF_TRAINING = ("callbacks", "loops", "lr_schedulers", "optimizer_states")
"""What a checkpoint has for a resumed run only."""
_OF_MODEL = ("seed_everything", "model", "data", "not_stored")
_CHECKPOINT, _SETTINGS, _CARD = OWN_FILES


def save_run(
    facts: Facts, folder: str | os.PathLike[str], *, title: str, licence: str | None
) -> None:
    """Write a folder with the weights of a task, its settings and a model card.

    Args:
        facts: of the model.
        folder: a new or empty folder, or one that this function has written.
        title: name of the model, by which the card says that it is loaded.
        licence: of the model.

    Raises:
        ValueError: when the folder has another model or run, or the adjacency is not stored.
    """
    _check_folder(Path(folder))
    checkpoint = torch.load(facts.checkpoint, map_location="cpu", weights_only=True)
    settings = _settings(yaml.safe_load(checkpoint[CONFIG_KEY]), facts.adjacency)
    content = {key: value for key, value in checkpoint.items() if key not in _OF_TRAINING}
    content["state_dict"] = facts.task.state_dict()
    content[CONFIG_KEY] = yaml.safe_dump(settings, sort_keys=False)
    card = trained_card(facts, settings, title=title, licence=licence)
    with complete_folder(folder) as new:
        with (new / _CHECKPOINT).open("wb") as file:
            save_tensors(content, file)
        (new / _SETTINGS).write_text(content[CONFIG_KEY], encoding="utf-8")
        (new / _CARD).write_text(card, encoding="utf-8")


def _settings(stored: dict[str, Any], pattern: Pattern) -> dict[str, Any]:
    """Return the settings of task and data, with another adjacency."""
    settings = {key: stored[key] for key in _OF_MODEL if key in stored}
    arguments = settings["model"]["init_args"]
    if isinstance(pattern, Learned):  # a file that other machines do not have
        pattern = pattern.pattern
    try:
        arguments["adjacency"] = pattern_config(pattern)
    except TypeError as error:
        raise ValueError(
            f"adjacency: got {type(pattern).__name__}, expected a pattern of graphformer.patterns; "
            "set another one before save"
        ) from error
    if "pretrained" in arguments:
        arguments["pretrained"] = None  # only training starts from it
    return settings


def save_without_run(
    network: nn.Module, adjacency: Pattern, folder: str | os.PathLike[str], licence: str | None
) -> None:
    """Write the model of a Hugging Face folder in its format, which has no other adjacency.

    Raises:
        ValueError: for another network, for another adjacency, and for a licence.
    """
    if not isinstance(network, Exportable):
        raise ValueError(
            f"network: got {type(network).__name__} without a checkpoint, expected a model of "
            "gf.load; load one"
        )
    if adjacency != getattr(network, "adjacency", None):
        raise ValueError(
            f"adjacency: got {adjacency}, expected that of the Hugging Face folder, whose format "
            "has no other; set it back, or save a run of `graphformer fit`"
        )
    if licence is not None:
        raise ValueError(
            f"licence: got {licence!r} for a model of a Hugging Face folder, which is written "
            "without a card; leave it out"
        )
    network.save_pretrained(folder)


def _check_folder(folder: Path) -> None:
    """Refuse a folder whose own model or run would be replaced or read instead."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or (names and _CHECKPOINT not in names):
        raise ValueError(
            f"folder: got {str(folder)!r}, which exists, expected a new or empty folder, or one of "
            "an earlier save; name another"
        )
