"""Lightning's argument parser, with renamed settings and sizes taken from the data."""

from __future__ import annotations

import os
from argparse import HelpFormatter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from graphformer import data as data_modules
from graphformer.cli.commands.list import catalog
from graphformer.cli.config.renamed import rename_option, upgrade

# Lightning calls deprecated functions of jsonargparse.
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
data_modules.import_all()  # the parser finds data modules by name among imported subclasses

_KNOWN_PATHS = ", known subclasses: "
SIZES = (
    "num_features",
    "num_edge_features",
    "num_classes",
    "vocab_size",
    "num_relations",
    "num_node_types",
    "num_edge_types",
    "channels",
    "patch_size",
    "patch_frames",
    "image_token_id",
)
"""Arguments of tasks and networks that `fill_sizes` takes from the data if they are absent."""


class Parser(LightningArgumentParser):
    """A parser that raises `argparse.ArgumentError`, with optional sizes and renamed settings.

    jsonargparse makes one more parser of this class for each class or function that the settings
    name, and parses its arguments with that parser.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "exit_on_error": False})
        self.allow_abbrev = False  # otherwise a misspelt name may match a longer one
        self._target: Callable[..., Any] | None = None  # whose arguments are parsed

    def add_class_arguments(self, theclass: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a class; sizes are optional."""
        self._target = theclass
        return self._with_optional_sizes(super().add_class_arguments(theclass, *args, **kwargs))

    def add_function_arguments(self, function: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a function; sizes are optional."""
        self._target = function
        return self._with_optional_sizes(super().add_function_arguments(function, *args, **kwargs))

    def parse_args(self, args: Any = None, *further: Any, **options: Any) -> Namespace:
        """Parse words of a command line, old names included.

        jsonargparse (4.53) writes a null inside nested settings as Python's None, which it then
        parses as a string; it is turned back into null here.
        """
        if isinstance(args, list):
            args = [word[:-4] + "null" if word.endswith("=None") else word for word in args]
            if self._target is not None:
                args = [rename_option(self._target, word) for word in args]
        return super().parse_args(args, *further, **options)

    def parse_object(self, cfg_obj: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a mapping, settings of earlier releases included."""
        if self._target is not None:
            settings = cfg_obj if isinstance(cfg_obj, dict) else vars(cfg_obj)
            changed = args[0] if args else kwargs.get("namespace", kwargs.get("cfg_base"))
            cfg_obj = upgrade(self._target, settings, vars(changed) if changed else None)
        return super().parse_object(cfg_obj, *args, **kwargs)

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return the help, in which the classes of graphformer replace those of torch.

        The settings of Lightning's Trainer come after all others.
        """
        self._action_groups.sort(key=_is_of_trainer)
        for action in self._actions:
            if hasattr(action, "extra_help"):
                action.extra_help = partial(_known_names, action)
        if formatter is None:  # an argument of newer versions of jsonargparse
            return super().format_help()
        return super().format_help(formatter)

    def _with_optional_sizes(self, added: list[str]) -> list[str]:
        for action in self._actions:
            if action.dest in (*SIZES, "settings"):
                action.required = False
        return added


def _is_of_trainer(group: Any) -> bool:
    return any(action.dest.startswith("trainer.") for action in group._group_actions)


def _known_names(action: Any) -> str:
    """Return the names that a setting accepts: networks, tasks and so on, else classes by path."""
    extra: str = type(action).extra_help(action)
    paths = extra.removeprefix(_KNOWN_PATHS).split(", ")
    own = [path.rpartition(".")[2] for path in paths if path.startswith("graphformer.")]
    if "torch.nn.Module" in paths:
        own = list(catalog()["networks"])
    if not own:
        return extra
    return f", known names: {', '.join(own)}; or the path of another class"


def import_object(path: str) -> Any:
    """Return the class or function that a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
