"""Sizes of a task and its networks that are taken from the data."""

from __future__ import annotations

import inspect
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace

from graphformer.cli.config.parser import SIZES, Parser, import_object
from graphformer.cli.errors import UsageError
from graphformer.planning import NoData

NETWORKS = ("network", "generator")
"""Arguments of tasks that are networks."""
HINTS = ("shape", "question_types")
"""Optional arguments of tasks and networks that are filled in where the data defines them."""


def fill_sizes(model: Namespace, data: Namespace) -> pl.LightningDataModule | None:
    """Fill in, from the data, the sizes that the settings of a task and its networks lack.

    Args:
        model: class path and arguments of the task; changed in place.
        data: class path and arguments of the data module.

    Returns:
        The data module after `setup("fit")`, or None if no size is absent.

    Raises:
        UsageError: when the data does not define a size.
    """
    networks = [name for name in NETWORKS if model.init_args.get(name) is not None]
    specs = {"model": model, **{f"model.{name}": model.init_args[name] for name in networks}}
    absent = [(key, spec, size) for key, spec in specs.items() for size in _absent_sizes(spec)]
    if not absent:
        return None
    module = set_up(data)
    for key, spec, size in absent:
        value = getattr(module, size, None)
        if value is None:
            given = type(module).__name__, "choose other data"
            if isinstance(module, NoData):
                given = "a plan in place of data", "leave out --tokens to read it from the data"
            raise UsageError(
                f"{spec.class_path.rpartition('.')[2]} needs {size}, which {given[0]} does not "
                f"define: set --{key}.{size}, or {given[1]}"
            )
        spec.init_args[size] = value
    for spec in specs.values():
        for hint in _absent_hints(spec):
            spec.init_args[hint] = getattr(module, hint, None)
    return module


def _absent_sizes(spec: Namespace) -> list[str]:
    """Required sizes without a value."""
    return [size for size in _absent(spec, SIZES) if _is_required(spec, size)]


def _absent_hints(spec: Namespace) -> list[str]:
    """Optional hints without a value."""
    return [hint for hint in _absent(spec, HINTS) if not _is_required(spec, hint)]


def _absent(spec: Namespace, names: tuple[str, ...]) -> list[str]:
    parameters = inspect.signature(import_object(spec.class_path)).parameters
    arguments = spec.get("init_args") or Namespace()
    return [name for name in names if name in parameters and arguments.get(name) is None]


def _is_required(spec: Namespace, name: str) -> bool:
    parameters = inspect.signature(import_object(spec.class_path)).parameters
    return parameters[name].default is inspect.Parameter.empty


def set_up(data: Namespace) -> pl.LightningDataModule:
    """Return the data module of settings after `setup("fit")`."""
    module: pl.LightningDataModule = build(pl.LightningDataModule, data)
    module.prepare_data()
    module.setup("fit")
    return module


def build(kind: type, settings: Namespace) -> Any:
    """Return the object of a class path and its arguments.

    Args:
        kind: a base class of it.
        settings: class path and arguments.
    """
    parser = Parser()
    parser.add_subclass_arguments(kind, "built", fail_untyped=False)
    return parser.instantiate(Namespace(built=settings)).built
