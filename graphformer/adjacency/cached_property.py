"""Attributes of frozen adjacencies: cached properties, and assignments that change nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar, overload

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor
from typing_extensions import Self

T = TypeVar("T")
P = ParamSpec("P")
_ABSENT = object()


class cached_property(Generic[T]):  # noqa: N801 - a decorator, as functools.cached_property is
    """A property that the instance's `_compute(name)` computes on first use and caches.

    Unlike functools.cached_property it has no lock, which torch.compile cannot trace before
    Python 3.12, and its values are computed outside of inference mode, so that tensors cached
    during validation can be used in training.
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
    """Return the value of a cached property, computed now."""
    compute = outside_inference_mode(getattr(type(instance), name).compute)
    if is_transformed(*vars(instance).values()):
        with temporarily_clear_interpreter_stack():
            return compute(instance)
    return compute(instance)


def is_transformed(*values: Any) -> bool:
    """Whether a transform of `torch.func` is active that none of the values belongs to.

    Tensors made in a transform are invalid after it. What is cached is therefore computed outside
    of transforms, unless it depends on their tensors.
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return not any(isinstance(value, torch.Tensor) and wrapped(value) for value in values)


def is_constant_of_export(*values: Any) -> bool:
    """Whether `torch.export` runs over an instance with these fields that is not its input.

    What is computed then has fake tensors, which are of no use after the export.
    """
    return torch.compiler.is_exporting() and not any(isinstance(x, FakeTensor) for x in values)


def is_tracing() -> bool:
    """Whether `torch.jit.trace` records operations."""
    return not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None


@contextmanager
def untraced() -> Iterator[None]:
    """Compute constants of `torch.jit.trace`, which are not operations of the traced program."""
    state = torch._C._get_tracing_state()
    if state is None:
        yield
        return
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def outside_inference_mode(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function outside of inference mode: its tensors may be saved for a backward pass."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        # torch.compile does not trace `inference_mode(False)`; compiled code keeps the mode.
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return wrapper


def keeps_fields(cls: type[T]) -> type[T]:
    """Let a frozen dataclass of an adjacency ignore assignments that change nothing.

    Lightning's and Fabric's conversion to a precision assigns all fields of a copy, converted. An
    adjacency has only integers and bools, which no precision converts.
    """
    frozen: Callable[[Any, str, Any], None] = cls.__setattr__

    def assign(self: Any, name: str, value: object) -> None:
        old = self.__dict__.get(name, _ABSENT)
        is_kept = name == "parts" and isinstance(value, tuple) and len(value) == len(self.parts)
        if not (is_kept or value is old or (isinstance(value, tuple) and value == old)):
            frozen(self, name, value)

    cls.__setattr__ = assign  # type: ignore[method-assign]
    return cls
