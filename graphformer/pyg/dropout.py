"""Replaces torch's dropout by the fused one during a model's forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graphformer.ops.dropout import dropout


class _FusedDropoutMode(TorchFunctionMode):
    """Redirects calls of `torch.nn.functional.dropout` to the fused one."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        called = _dropout if function is F.dropout else function
        return called(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """The fused dropout with torch's arguments.

    Dropout in place is left to torch, and a subclass, such as sparse features, to its own dropout.
    """
    if inplace or type(input) not in (Tensor, nn.Parameter):
        return F.dropout(input, p, training, inplace)
    return dropout(input, p, training)


class FastDropout:
    """A pair of hooks that enable the fused dropout during the forward pass of a module."""

    def __init__(self) -> None:
        self._modes: list[_FusedDropoutMode | None] = []

    def before(self, module: nn.Module, args: Any) -> None:
        """Enable it in training; not while compiling or tracing, where it would be slower."""
        if _is_traced():
            return
        self._modes.append(_FusedDropoutMode() if module.training else None)
        if self._modes[-1] is not None:
            self._modes[-1].__enter__()

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Disable it, also after an error in the forward pass.

        There is no mode on the stack if a hook raised before `before` ran.
        """
        if _is_traced() or not self._modes:
            return
        mode = self._modes.pop()
        if mode is not None:
            mode.__exit__(None, None, None)


def add_fast_dropout(model: nn.Module) -> bool:
    """Register the hooks on a model and return whether it did not have them."""
    hooks = model._forward_pre_hooks.values()
    if any(isinstance(getattr(hook, "__self__", None), FastDropout) for hook in hooks):
        return False
    pair = FastDropout()
    model.register_forward_pre_hook(pair.before)
    model.register_forward_hook(pair.after, always_call=True)
    return True


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
