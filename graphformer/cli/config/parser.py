"""The parser of Lightning's command line, with sizes that may be left to the data."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from graphformer import data as data_modules
from graphformer.cli.errors import UsageError

data_modules.import_all()  # the parser finds data modules by name among imported subclasses

# What a task or a network needs to know of the data, and asks of it unless it is given.
NETWORKS = ("network", "generator")
SIZES = (
    "num_features",
    "num_edge_features",
    "num_classes",
    "vocab_size",
    "channels",
    "patch_size",
)
# What a network may be told besides, where the data knows it.
HINTS = ("shape",)


class Parser(LightningArgumentParser):
    """A parser that raises instead of printing, and requires no sizes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "exit_on_error": False})
        self.allow_abbrev = False  # a misspelt name must not pass for a shortened one

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's arguments, none of the sizes required."""
        return self._without_sizes(super().add_class_arguments(*args, **kwargs))

    def add_function_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a function's arguments, none of the sizes required."""
        return self._without_sizes(super().add_function_arguments(*args, **kwargs))

    def parse_args(self, args: Any = None, *further: Any, **options: Any) -> Namespace:
        """Parse, also a null deep within settings.

        There jsonargparse (4.53) writes it out as Python's None and reads that as a text.
        """
        if isinstance(args, list):
            args = [word[:-4] + "null" if word.endswith("=None") else word for word in args]
        return super().parse_args(args, *further, **options)

    def _without_sizes(self, added: list[str]) -> list[str]:
        for action in self._actions:
            if action.dest in (*SIZES, "settings"):
                action.required = False
        return added


def fill_sizes(model: Namespace, data: Namespace) -> pl.LightningDataModule | None:
    """Put the sizes that a task's and its network's settings lack in, from the data.

    Returns:
        The data module, set up, if it had to be asked.

    Raises:
        UsageError: the data does not know a size.
    """
    networks = [name for name in NETWORKS if model.init_args.get(name) is not None]
    specs = {"model": model, **{f"model.{name}": model.init_args[name] for name in networks}}
    lacking = [(key, spec, size) for key, spec in specs.items() for size in _lacking(spec)]
    if not lacking:
        return None
    module = _set_up(data)
    for key, spec, size in lacking:
        value = getattr(module, size, None)
        if value is None:
            raise UsageError(
                f"{spec.class_path.rpartition('.')[2]} needs {size}, which {type(module).__name__} "
                f"does not tell: set --{key}.{size}, or choose other data"
            )
        spec.init_args[size] = value
    for spec in specs.values():
        for hint in _lacking(spec, HINTS, required=False):
            spec.init_args[hint] = getattr(module, hint, None)
    return module


def _lacking(
    spec: Namespace, sizes: tuple[str, ...] = SIZES, *, required: bool = True
) -> list[str]:
    parameters = inspect.signature(import_object(spec.class_path)).parameters
    given = spec.get("init_args") or Namespace()
    return [
        size
        for size in sizes
        if size in parameters
        and (parameters[size].default is inspect.Parameter.empty) == required
        and given.get(size) is None
    ]


def import_object(path: str) -> Any:
    """The class or function that a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _set_up(data: Namespace) -> pl.LightningDataModule:
    parser = Parser()
    parser.add_subclass_arguments(pl.LightningDataModule, "data", fail_untyped=False)
    module: pl.LightningDataModule = parser.instantiate(Namespace(data=data)).data
    module.prepare_data()
    module.setup("fit")
    return module
