"""Properties made on first need and kept: CSR, by-source order, masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import torch
from typing_extensions import Self

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801 - a decorator, as functools.cached_property is
    """A property computed on first need and kept in the instance.

    Unlike functools.cached_property it has no lock, which torch.compile cannot trace before
    Python 3.12, and what it keeps is made outside of inference mode: a validation epoch must not
    leave tensors behind that training may not use. The instance's `_compute` does the making.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else instance._compute(self.name)


def compute_uncached(instance: Any, name: str) -> Any:
    """The value of a kept property, made anew."""
    compute = getattr(type(instance), name).compute
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return compute(instance)
    with torch.inference_mode(False):
        return compute(instance)
