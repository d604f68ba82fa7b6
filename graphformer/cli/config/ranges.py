"""Ranges of numeric settings, by name, checked where settings are parsed."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import torch
from jsonargparse import Namespace

from graphformer.cli.config.parser import import_object
from graphformer.cli.errors import UsageError

_AT_LEAST = {
    0: (
        "depth text_depth decoder_depth stem_depth weight_decay warmup_steps frozen_blocks noise "
        "num_workers registers val_size radius count max_distance gradient_clip_val "
        "limit_train_batches limit_val_batches limit_test_batches limit_predict_batches "
        "overfit_batches log_every_n_steps fast_dev_run patience seed_everything seed fold split"
    ),
    1: (
        "dim text_dim decoder_dim embedding_dim hidden_dim num_heads decoder_heads out_heads "
        "batch_size micro_batch_size max_tokens max_edges block_size max_length steps_per_epoch "
        "channels patch_size num_classes num_features vocab_size vocabulary_size num_samples "
        "num_nodes train_size test_size num_folds accumulate_grad_batches labels_per_class "
        "check_val_every_n_epoch num_symbols num_buckets max_degree dilation"
    ),
    -1: "max_epochs max_steps min_epochs min_steps num_sanity_val_steps save_top_k",
}
"""The lowest value of settings, separated by blanks."""
_SHARES = (
    "label_smoothing min_lr_ratio mask_rate mask_ratio held_out label_fraction layer_decay "
    "val_fraction test_fraction"
)
_POSITIVE = "lr temperature norm_eps val_check_interval mean_length"
_ENDLESS = ("max_epochs", "max_steps")
_HIGHEST_SEED = 2**32 - 1

_LOW = {name: low for low, names in _AT_LEAST.items() for name in names.split()}


def check_ranges(settings: Namespace) -> None:
    """Refuse numbers that have no meaning for the setting of their name.

    Args:
        settings: of a command.

    Raises:
        UsageError: when a number is out of range; the message names its setting.
    """
    _check_devices(settings.trainer)
    _check_nulls(settings)
    for key, value in _numbers(settings.items()):
        name = key.rpartition(".")[2]
        expected = _expected(name, value)
        if expected is not None:
            short = key.replace(".init_args", "")
            raise UsageError(f"{short}: got {value:g}, expected {expected}; change --{short}")


def _check_devices(settings: Namespace) -> None:
    """Refuse more processes on a CPU than it has cores; two are always possible."""
    devices, accelerator = settings.get("devices"), settings.get("accelerator")
    has_other = torch.cuda.is_available() or torch.backends.mps.is_available()
    if accelerator != "cpu" and (accelerator != "auto" or has_other):
        return  # Lightning checks the number
    cores = max(2, os.cpu_count() or 1)
    if str(devices).isdecimal() and int(devices) > cores:
        raise UsageError(
            f"trainer.devices: got {devices}, expected at most {cores} processes on the cores of "
            "this machine; change --trainer.devices"
        )


def _check_nulls(settings: Namespace) -> None:
    """Refuse null for arguments whose type excludes it; jsonargparse (4.53) accepts it."""
    for key, path in settings.items():
        owner, _, last = key.rpartition(".")
        if last != "class_path" or not isinstance(path, str):
            continue
        defaults = _defaults(path)
        for name, value in vars(settings.get(f"{owner}.init_args") or Namespace()).items():
            if value is None and defaults.get(name) is not None:
                short = f"{owner}.{name}".replace(".init_args", "")
                raise UsageError(
                    f"{short}: got null, expected a value such as {defaults[name]}; change "
                    f"--{short}"
                )


def _defaults(class_path: str) -> dict[str, Any]:
    """Return the defaults of arguments that may not be None, those of base classes included."""
    target = import_object(class_path)
    owners = reversed(target.__mro__[:-1]) if isinstance(target, type) else [target]
    parameters = [p for owner in owners for p in inspect.signature(owner).parameters.values()]
    return {
        p.name: None if _takes_none(p.annotation) else p.default
        for p in parameters
        if p.default is not p.empty
    }


def _takes_none(annotation: object) -> bool:
    """Whether an annotation, perhaps as text, allows None."""
    if isinstance(annotation, str):
        return "None" in annotation.replace("|", " ").split() or annotation.startswith("Optional")
    return type(None) in get_args(annotation)


def _numbers(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield each number with the path of its setting; those of a sequence with that of all."""
    for key, value in items:
        values = value if isinstance(value, list | tuple) else [value]
        for position, each in enumerate(values):
            if isinstance(each, Namespace):
                yield from _numbers((f"{key}[{position}].{k}", v) for k, v in each.items())
            elif isinstance(each, int | float) and not isinstance(each, bool):
                yield key, each


def _expected(name: str, value: float) -> str | None:
    """Return what a setting expects if the value is out of its range, else None."""
    if math.isnan(value):
        return "a number"
    if name in _LOW and value < _LOW[name]:
        return f"{_LOW[name]} or more"
    if name in _LOW and math.isinf(value):
        return "a finite number"
    if name in _ENDLESS and value == 0:
        return "1 or more, or -1 for no limit"
    if name in ("seed", "seed_everything") and value > _HIGHEST_SEED:
        return f"at most {_HIGHEST_SEED}"
    if name in _POSITIVE.split() and not 0 < value < math.inf:
        return "a finite number above 0"
    if (name in _SHARES.split() or name.endswith("dropout")) and not 0 <= value <= 1:
        return "a number from 0 to 1"
    if name == "betas" and not 0 <= value < 1:
        return "numbers from 0 to below 1"
    return None
