"""Settings of generation that a checkpoint is stored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

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


APPLIED: dict[str, Any] = {
    "repetition_penalty": 1,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "min_length": 0,
    "min_new_tokens": None,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
"""Settings that `generate` has by the same name, and their neutral values."""
UNUSED: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "penalty_alpha": 0,
    "guidance_scale": 1,
    "sequence_bias": None,
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "forced_decoder_ids": None,
    "force_words_ids": None,
    "constraints": None,
    "stop_strings": None,
    "max_time": None,
    "dola_layers": None,
    "watermarking_config": None,
}
"""Settings that change texts and are not applied, and their neutral values."""
UNUSED_SAMPLING: dict[str, Any] = {
    "temperature": 1,
    "top_k": 50,
    "top_p": 1,
    "min_p": None,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
}
"""The same for checkpoints whose texts are sampled, with the defaults of `transformers`."""


def _all_settings(config: Config, family: Family, source: Path | nn.Module) -> dict[str, Any]:
    """Return generation_config.json, or the settings of config.json if there is none."""
    own = _generation_settings(source)
    if own:
        return own
    stated = {name: value for name, value in config.values.items() if value is not None}
    settings = {**config.get("text_config", {}), **stated}
    if "eos_token_id" not in config.values:
        settings.setdefault("eos_token_id", family.eos_token_id)
    return settings


def _differing(settings: dict[str, Any], neutral: dict[str, Any]) -> dict[str, Any]:
    """Return the settings among `neutral` that have another value."""
    found = {name: settings.get(name) for name in neutral}
    return {
        name: value
        for name, value in found.items()
        if value is not None and value != [] and value != neutral[name]
    }


def generation_config(config: Config, family: Family, source: Path | nn.Module) -> GenerateOptions:
    """Return the defaults of `generate` that a checkpoint states."""
    settings = _all_settings(config, family, source)
    options: dict[str, Any] = {}
    eos = settings.get("eos_token_id")
    if eos is not None and eos != []:
        options["eos_token_id"] = [eos] if isinstance(eos, int) else eos
    return cast(GenerateOptions, options | _differing(settings, APPLIED))


def unused_settings(config: Config, family: Family, source: Path | nn.Module) -> dict[str, Any]:
    """Return the settings of a checkpoint that change texts and that `generate` does not apply."""
    settings = _all_settings(config, family, source)
    sampling = UNUSED_SAMPLING if settings.get("do_sample") else {}
    return _differing(settings, UNUSED | sampling)
