"""Settings of a task made in Python, in the form of `graphformer fit`'s YAML, for checkpoints."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

import lightning.pytorch as pl
import yaml
from torch import nn

from graphformer import models
from graphformer.data.base import run_seed
from graphformer.patterns import Pattern
from graphformer.patterns.serialization import pattern_config, pattern_from_config
from graphformer.recorded import Call, arguments_by_name

_F = TypeVar("_F", bound=Callable[..., Any])
CONFIG_KEY = "graphformer_config"
"""Where a checkpoint has the settings, as YAML."""
NOT_STORED = (
    "got a checkpoint without it, because it was made by other code than graphformer's; pass it to "
    "load_from_checkpoint or gf.load"
)
_PLAIN = (str, int, float, bool, type(None))


def keep_call(init: _F) -> _F:
    """Let an `__init__` keep the arguments of the outermost call as `constructor_call`."""

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        # In __dict__, because a module takes no attributes before its own __init__.
        self.__dict__.setdefault("constructor_call", (args, kwargs))
        init(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


def settings_text(task: pl.LightningModule, data: pl.LightningDataModule | None) -> str:
    """Return the settings of a task and its data as YAML.

    Arguments of the task that are no plain values, such as a network that was not built by a
    function of `graphformer.models`, are named in the list `not_stored`.

    Args:
        task: the task, which has the arguments of its constructor as `constructor_call`.
        data: the data module, with saved hyperparameters.
    """
    model, not_stored = _call_settings(_class_path(task), _arguments(task))
    of_data, not_stored_of_data = None, ["data"]
    if data is not None:
        of_data, not_stored_of_data = _call_settings(_class_path(data), dict(data.hparams))
    settings = {
        "seed_everything": run_seed(),
        "model": model,
        "data": None if not_stored_of_data else of_data,
        "not_stored": not_stored,
    }
    return str(yaml.safe_dump(settings, sort_keys=False))


def constructor_arguments(text: str, given: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a task's constructor from `settings_text`.

    Args:
        text: the settings.
        given: names of arguments that are passed by the caller, and not needed from the settings.

    Raises:
        ValueError: when an argument is neither stored nor given.
    """
    settings = yaml.safe_load(text) or {}
    arguments = (settings.get("model") or {}).get("init_args") or {}
    missing = sorted({*settings.get("not_stored", [])} - {*given})
    if missing:
        raise ValueError(f"{missing[0]}: {NOT_STORED}")
    return {name: _build(value) for name, value in arguments.items() if name not in given}


def _arguments(task: Any) -> dict[str, Any]:
    args, kwargs = task.constructor_call
    arguments = arguments_by_name(inspect.signature(type(task).__init__), (task, *args), kwargs)
    del arguments["self"]
    return {**arguments, "adjacency": task.adjacency}  # it may have been replaced


def _call_settings(class_path: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a call, and the names of the arguments that are no plain values."""
    settings, not_stored = {}, []
    for name, value in arguments.items():
        try:
            settings[name] = _plain(value)
        except TypeError:
            not_stored.append(name)
    return {"class_path": class_path, "init_args": settings}, not_stored


def _plain(value: Any) -> Any:
    """Return a value as plain types.

    Raises:
        TypeError: when that is not possible.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Pattern):
        return _plain(pattern_config(value))
    call = getattr(value, "built_by", None)
    if isinstance(value, nn.Module) and isinstance(call, Call):
        return {"class_path": call.class_path, "init_args": _plain(call.arguments)}
    raise TypeError(f"got {type(value).__name__}, expected plain types, a pattern or a network")


def _class_path(instance: object) -> str:
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _build(value: Any) -> Any:
    if not isinstance(value, dict) or "class_path" not in value:
        return value
    home, _, name = str(value["class_path"]).rpartition(".")
    if home in ("", "graphformer.patterns"):
        return pattern_from_config(value)
    if home != "graphformer.models" or name not in models.__all__:
        raise ValueError(
            f"class_path: got {value['class_path']}, expected a function of graphformer.models; "
            "pass the network yourself, as network="
        )
    arguments = {key: _build(each) for key, each in (value.get("init_args") or {}).items()}
    return getattr(import_module(home), name)(**arguments)
