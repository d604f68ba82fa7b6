"""What a checkpoint says about itself, read so that nothing it asks for is passed over."""

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
"""The activations by the names that Hugging Face gives them."""


class Config:
    """The settings of a checkpoint, its config.json.

    Args:
        values: the settings by name.
        origin: where they are from, for messages.
    """

    def __init__(self, values: dict[str, Any], origin: str) -> None:
        self.values, self.origin = values, origin

    def need(self, *names: str) -> Any:
        """The setting of the first of these names that is there.

        Raises ValueError where none is.
        """
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        raise ValueError(f"{self.origin} lacks {' or '.join(map(repr, names))}: add it.")

    def size(self, *names: str) -> int:
        """A size that must be there, a whole number above 0."""
        value = self.need(*names)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{self.origin} has {names[0]!r}: {value!r}, which must be a whole number above 0."
            )
        return value

    def get(self, name: str, default: Any) -> Any:
        """A setting, or its default where it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def demand(self, default: Any, *names: str, accepted: tuple[Any, ...] = ()) -> None:
        """Raise ValueError for settings other than their default and what is accepted besides."""
        for name in names:
            value = self.get(name, default)
            if value != default and value not in accepted:
                known = " or ".join(map(repr, (default, *accepted)))
                raise ValueError(
                    f"{self.origin} has {name!r}: {value!r}, which this library cannot do: it "
                    f"knows {known}."
                )

    def activation(self, name: str, default: str) -> Callable[[], nn.Module]:
        """The activation that a setting names.

        Raises ValueError for one that is unknown.
        """
        value = self.get(name, default)
        if value not in ACTIVATIONS:
            raise ValueError(
                f"{self.origin} has {name!r}: {value!r}, but the known activations are "
                f"{', '.join(ACTIVATIONS)}."
            )
        return ACTIVATIONS[value]

    def heads(self, dim: int, *names: str) -> int:
        """The number of heads, which must divide the width."""
        heads = self.size(*names)
        if dim % heads:
            raise ValueError(
                f"{self.origin} has {names[0]!r}: {heads}, which does not divide the width {dim}."
            )
        return heads

    @property
    def num_labels(self) -> int:
        """The number of classes: as many as have names, two by default."""
        names = self.values.get("id2label")
        return len(names) if names else int(self.values.get("num_labels") or 2)
