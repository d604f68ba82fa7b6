"""A dispatch mode that runs a training step on shapes and records what it would allocate.

Parameters are fake tensors: they have a shape, a dtype and a device, but no memory. What is
computed from them is fake too. Everything else, such as token ids, masks and edges, is computed,
so that results whose sizes depend on data have the right sizes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only

from graphformer.planning.flops import Flops, count_flops
from graphformer.planning.timeline import Category, Events
from graphformer.planning.workspace import workspace

aten = torch.ops.aten
_LARGEST_COMPUTED = 2**22
"""Elements of the largest tensor that is computed although it is made from nothing."""


class ShapeTrace(TorchDispatchMode):
    """Records allocations and FLOPs; made by `shape_trace`.

    Attributes:
        events: all allocations and frees.
        flops: of the operators so far.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.events, self.flops = fake, Events(), Flops()
        self._has_values = True
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._finalizers: list[weakref.finalize] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator for its shapes, or for its values where all inputs have some."""
        kwargs = kwargs or {}
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        if any(isinstance(x, FakeTensor) for x in tensors):
            out = self._run_fake(func, args, kwargs)
        elif tensors:
            with _disable_current_modes():
                out = func(*args, **kwargs)
        else:
            out = self._make(func, args, kwargs)
        if func.namespace != "prim":
            self._record(func, args, kwargs, out)
        return out

    def _make(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator without tensors; large tensors are made fake."""
        fake = func(*args, **kwargs)  # under the mode below
        is_small = isinstance(fake, Tensor) and prod(fake.shape) <= _LARGEST_COMPUTED
        if is_small and self._has_values:
            with _disable_current_modes():
                return func(*args, **kwargs)
        return fake

    def _run_fake(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if func is aten._local_scalar_dense.default or func is aten.equal.default:
            return False if func is aten.equal.default else _plausible_value(args[0])
        if func is aten.bincount.default:  # of experts: as many tokens for each
            with _disable_current_modes():
                return _even_counts(args[0].numel(), kwargs.get("minlength", args[-1]))
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            args = (args[0], [self._as_numbers(index) for index in args[1]], *args[2:])
        elif func is aten.nonzero.default:
            count, dims = _true_count(args[0]), args[0].ndim
            return self.empty((count, dims), torch.int64)
        elif func is aten.masked_select.default:
            count = _true_count(args[1])
            return self.empty((count,), args[0].dtype)
        return func(*args, **kwargs)

    def _as_numbers(self, index: Tensor | None) -> Tensor | None:
        """Return the rows that a mask [N] selects; all, where the mask is not known."""
        if index is None or index.dtype not in (torch.bool, torch.uint8) or index.ndim != 1:
            return index
        return self.empty((_true_count(index),), torch.int64)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a fake tensor that is not recorded."""
        with _disable_current_modes(), self.fake:
            return torch.empty(shape, dtype=dtype)

    @contextmanager
    def without_values(self) -> Iterator[None]:
        """Make all tensors in the body of a `with` statement fake."""
        before, self._has_values = self._has_values, False
        try:
            yield
        finally:
            self._has_values = before

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        for x in tree_flatten(out)[0]:
            if isinstance(x, Tensor):
                self.track(x)
        size = workspace(func, args, out)
        if size:
            self.events.free(self.events.allocate(size))
        self.flops.add(func, count_flops(func, args, kwargs, out))

    def track(self, x: Tensor, category: Category | None = None) -> None:
        """Record the memory of a tensor, if it is new; give it a category, if one is named."""
        if x.layout != torch.strided:  # sparse features, which belong to the data
            return
        storage = x.untyped_storage()
        number = self._numbers.get(storage)
        if number is None:
            number = self.events.allocate(storage.nbytes())
            self._numbers[storage] = number
            weakref.finalize(storage, self.events.free, number)
        if category is not None:
            self.events.categories[number] = category

    def begin_step(self) -> None:
        """Note that the step that is planned begins: FLOPs and phases before it are dropped."""
        self.flops = Flops()
        self.events.begin_step()

    def mark_activations(self) -> None:
        """Give what is allocated now, and has no other category, the category of activations."""
        for number in self._numbers.values():
            if self.events.categories[number] == "temporary":
                self.events.categories[number] = "activations"


@contextmanager
def shape_trace(fake: FakeTensorMode) -> Iterator[ShapeTrace]:
    """Record what the body of a `with` statement would allocate.

    Args:
        fake: the mode of the parameters.
    """
    trace = ShapeTrace(fake)
    with fake, trace:
        yield trace


def to_fake(value: Any, fake: FakeTensorMode) -> Any:
    """Return tensors, or a tree of them, as fake tensors of the same shapes."""

    def convert(x: Tensor) -> Tensor:
        return x if isinstance(x, FakeTensor) else fake.from_tensor(x, static_shapes=True)

    return tree_map_only(Tensor, convert, value)


def _plausible_value(x: Tensor) -> bool | int | float:
    """Return a value of an unknown number: checks of inputs pass with it."""
    if x.dtype == torch.bool:
        return False
    return 0.0 if x.is_floating_point() else 0


def _true_count(mask: Tensor) -> int:
    if isinstance(mask, FakeTensor):
        return mask.numel()
    with _disable_current_modes():
        return int(mask.count_nonzero())


def _even_counts(total: int, parts: int) -> Tensor:
    counts = torch.full((parts,), total // parts)
    counts[: total % parts] += 1
    return counts
