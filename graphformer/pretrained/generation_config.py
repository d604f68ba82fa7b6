"""Settings of generation that a checkpoint is stored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from graphformer.models.generation import GenerateOptions
from graphformer.pretrained.checkpoint_io import read_json
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import Family


def _generation_settings(source: Path | nn.Module) -> dict[str, Any]:
    """Return the content of generation_config.json, empty without one."""
    if not isinstance(source, Path):
        own: Any = getattr(source, "generation_config", None)
        return {} if own is None else own.to_dict()
    file = source / "generation_config.json"
    return read_json(file) if file.is_file() else {}


def start_id(config: Config, family: Family, source: Path | nn.Module) -> int | None:
    """Return the first token of a decoder's text."""
    settings = [_generation_settings(source), config.values]
    found = [each.get("decoder_start_token_id") for each in settings]
    found.append(None if family.start_token is None else config.get(family.start_token, None))
    return next((token for token in found if token is not None), None)


def generation_config(config: Config, family: Family, source: Path | nn.Module) -> GenerateOptions:
    """Return the end tokens and the repetition penalty of a checkpoint."""
    settings = dict(config.values) if "eos_token_id" in config.values else {}
    settings.setdefault("eos_token_id", family.eos_token_id)
    own = _generation_settings(source)
    settings = own if isinstance(source, Path) and own else settings | own
    options: GenerateOptions = {}
    eos = settings.get("eos_token_id")
    if eos is not None and eos != []:
        options["eos_token_id"] = [eos] if isinstance(eos, int) else eos
    penalty = settings.get("repetition_penalty")
    if penalty is not None:
        options["repetition_penalty"] = penalty
    return options
