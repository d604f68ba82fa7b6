"""Context managers: evaluation mode, and fast linear layers for few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from graphformer.models.protocols import Network

WeightDtype = Literal["float32", "bfloat16"]
"""The type that weights are read in during generation."""


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
def fast_linear(network: Network, weight_dtype: WeightDtype = "float32") -> Iterator[None]:
    """Replace the forward of linear layers by CPU kernels for few rows; restored on exit.

    Args:
        network: with plain `nn.Linear` layers; others stay as they are.
        weight_dtype: "bfloat16" rounds the weights of linear layers and embeddings. Arithmetic
            stays float32.
    """
    changed: list[nn.Module] = []
    for module in network.modules():
        if "forward" in module.__dict__:
            continue
        forward = _forward(module, weight_dtype == "bfloat16")
        if forward is not None:
            module.forward = forward
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _forward(module: nn.Module, rounded: bool) -> Callable[..., Tensor] | None:
    """The forward that replaces that of a module; None if it stays."""
    from graphformer.ops.cpu.skinny_linear import is_supported, linear  # compiles its kernels

    if type(module) is nn.Linear:
        if is_supported(module.weight):
            weight = rounded_weight(module.weight) if rounded else module.weight
            return partial(linear, weight=weight, bias=module.bias)
        if rounded:
            weight = rounded_weight(module.weight).to(module.weight.dtype)
            return partial(F.linear, weight=weight, bias=module.bias)
    if rounded and type(module) is nn.Embedding and module.max_norm is None:
        return partial(_embed, weight=rounded_weight(module.weight), dtype=module.weight.dtype)
    return None


def _embed(ids: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return F.embedding(ids, weight).to(dtype)


_copies = WeakTensorKeyDictionary()


def rounded_weight(weight: Tensor) -> Tensor:
    """The weight in bfloat16, [out, in]; kept until the weight changes or is freed."""
    version = -1 if weight.is_inference() else weight._version
    known = _copies.get(weight)
    if known is None or known[0] != (version, weight.data_ptr()):
        copy = weight.detach().to(torch.bfloat16)
        known = _copies[weight] = (version, weight.data_ptr()), copy
    rounded: Tensor = known[1]
    return rounded
