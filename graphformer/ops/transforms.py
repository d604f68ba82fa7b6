"""Detection of forward-mode derivatives and of transforms such as `torch.func.grad` and `vmap`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is active; custom operators do not support these."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def has_tangent(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a forward-mode derivative of any of the tensors is computed."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)
