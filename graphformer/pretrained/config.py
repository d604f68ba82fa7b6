"""`Config`: the settings of a checkpoint, with checks that none of them is silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from graphformer.nn import QuickGELU

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_python": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_fast": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "gelu_python_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}
"""The activations by their names in `transformers`."""


class Config:
    """The settings of a checkpoint, its config.json.

    Args:
        values: the settings by name.
        origin: the file or object that they are from, for messages.
    """

    def __init__(self, values: dict[str, Any], origin: str) -> None:
        self.values, self.origin = values, origin

    def require(self, *names: str) -> Any:
        """Return the first of the named settings that is present.

        Raises:
            ValueError: when none is present.
        """
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        raise ValueError(f"{self.origin}: lacks {' or '.join(map(repr, names))}; add it")

    def size(self, *names: str) -> int:
        """Return a required setting that is a positive whole number.

        Raises:
            ValueError: when it is missing or something else.
        """
        value = self.require(*names)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{self.origin}: got {names[0]!r}: {value!r}, expected a whole number above 0"
            )
        return value

    def token_id(self, name: str) -> int:
        """Return a required setting that is one token id.

        Raises:
            ValueError: when it is missing or something else.
        """
        value = self.require(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{self.origin}: got {name!r}: {value!r}, expected one token id")
        return value

    def get(self, name: str, default: Any) -> Any:
        """Return a setting, or the default if it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def check_unset(self, default: Any, *names: str, accepted: tuple[Any, ...] = ()) -> None:
        """Check that settings have their default or another accepted value.

        Raises:
            ValueError: for another value, which our models do not support.
        """
        for name in names:
            value = self.get(name, default)
            if value != default and value not in accepted:
                choices = " or ".join(map(repr, (default, *accepted)))
                raise ValueError(
                    f"{self.origin}: got {name!r}: {value!r}, expected {choices}; other values "
                    "are not supported"
                )

    def activation(self, name: str, default: str) -> Callable[[], nn.Module]:
        """Return the constructor of the activation that a setting names.

        Raises:
            ValueError: when the name is unknown.
        """
        value = self.get(name, default)
        if value not in ACTIVATIONS:
            raise ValueError(
                f"{self.origin}: got {name!r}: {value!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[value]

    def num_heads(self, dim: int, *names: str) -> int:
        """Return a number of heads.

        Raises:
            ValueError: when it does not divide the width.
        """
        heads = self.size(*names)
        if dim % heads:
            raise ValueError(
                f"{self.origin}: got {names[0]!r}: {heads}, expected a divisor of the width {dim}"
            )
        return heads

    @property
    def num_labels(self) -> int:
        """The number of classes: that of the class names, two by default."""
        names = self.values.get("id2label")
        return len(names) if names else int(self.values.get("num_labels") or 2)


def set_num_classes(config: Config, num_classes: int) -> None:
    """Replace the class names of a config by `num_classes` generic ones."""
    config.values["id2label"] = {str(i): f"LABEL_{i}" for i in range(num_classes)}
    config.values["label2id"] = {f"LABEL_{i}": i for i in range(num_classes)}
