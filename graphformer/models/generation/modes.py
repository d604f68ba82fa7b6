"""Context managers: evaluation mode, and fast linear layers for few rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from graphformer.models.protocols import Network


@contextmanager
def eval_mode(network: Network) -> Iterator[None]:
    """Set all modules to evaluation mode; the mode of each is restored on exit."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def fast_linear(network: Network) -> Iterator[None]:
    """Replace the forward of linear layers by a CPU kernel for few rows; restored on exit."""
    from graphformer.ops.cpu.skinny_linear import is_supported, linear  # compiles its kernel

    changed: list[nn.Linear] = []
    for module in network.modules():
        if (
            type(module) is nn.Linear
            and "forward" not in module.__dict__
            and is_supported(module.weight)
        ):
            module.forward = partial(linear, weight=module.weight, bias=module.bias)  # type: ignore[method-assign]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]
