"""Fast dropout inside a model's forward pass, by whatever name the model calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graphformer.ops.dropout import dropout


class _Mode(TorchFunctionMode):
    """Answers `torch.nn.functional.dropout` by the fused one."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = _dropout if function is F.dropout else function
        return answer(*args, **(kwargs or {}))


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """With torch's arguments; what is to happen in place is left to torch."""
    return F.dropout(input, p, training, inplace) if inplace else dropout(input, p, training)


class FastDropout:
    """The pair of hooks that turns the mode on while a module's forward pass runs."""

    def __init__(self) -> None:
        self._modes: list[_Mode | None] = []

    def before(self, module: nn.Module, args: Any) -> None:
        """Turn it on in training; torch.compile and tracing have nothing to gain from it."""
        if _is_traced():
            return
        self._modes.append(_Mode() if module.training else None)
        if self._modes[-1] is not None:
            self._modes[-1].__enter__()

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Turn it off, also after an error; one in a hook before `before` finds nothing to do."""
        if _is_traced() or not self._modes:
            return
        mode = self._modes.pop()
        if mode is not None:
            mode.__exit__(None, None, None)


def add_fast_dropout(model: nn.Module) -> bool:
    """Give the model the hooks; false if it has them."""
    hooks = model._forward_pre_hooks.values()
    if any(isinstance(getattr(hook, "__self__", None), FastDropout) for hook in hooks):
        return False
    pair = FastDropout()
    model.register_forward_pre_hook(pair.before)
    model.register_forward_hook(pair.after, always_call=True)
    return True


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
