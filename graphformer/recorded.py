"""`recorded`: builder functions whose result says by which call it was built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class Call(NamedTuple):
    """A call: the import path of a function or class, and its arguments by name."""

    class_path: str
    arguments: dict[str, Any]


def recorded(function: _F) -> _F:
    """Store the call of a builder on the object it returns, as `built_by`.

    Checkpoints contain these calls, so that a network is rebuilt from its checkpoint alone. The
    decorator goes directly above the function, so that it sees the names of today's arguments. If
    a builder calls another one, the outer call is stored.
    """
    signature = inspect.signature(function)
    path = f"graphformer.models.{function.__name__}"

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        built = function(*args, **kwargs)
        built.built_by = Call(path, arguments_by_name(signature, args, kwargs))
        return built

    return wrapper  # type: ignore[return-value]


def arguments_by_name(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by their names."""
    return {**dict(zip(signature.parameters, args, strict=False)), **kwargs}
