"""Partial products with linear maps that respect hooks, adapters and reparametrisations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module is exactly of a class and calls of it have no other effect.

    It is not when it is of a subclass, as with a LoRA adapter or `torch.nn.utils.parametrize`, or
    when it has hooks, as with `torch.nn.utils.prune`; then its weight must not be used directly.
    """
    if type(module) is not kind or any(getattr(module, name) for name in _HOOKS):
        return False
    return not any(getattr(nn.modules.module, f"_global{name}") for name in _HOOKS)


def linear_rows(x: Tensor, linear: nn.Linear, rows: slice) -> Tensor:
    """Return linear(x)[..., rows], without computing the other rows if the module is plain."""
    if not is_plain(linear, nn.Linear):
        return linear(x)[..., rows]
    return F.linear(x, linear.weight[rows], None if linear.bias is None else linear.bias[rows])


def weight_of(linear: nn.Linear) -> Tensor:
    """Return the matrix W [out, in] of a linear map without bias.

    If the module is not plain, it is called on the identity, whose image is W^T.
    """
    if is_plain(linear, nn.Linear):
        return linear.weight
    identity = torch.eye(linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
    image: Tensor = linear(identity)
    return image.T
