"""Dropout that costs a fraction of torch's on a CPU, whose generator draws numbers one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.ops.cpu import load_driver

SMALLEST = 1 << 14
"""Numbers from which on the fused pass is the faster one; below it costs more than it saves."""


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`, fast on a CPU: same distribution, other random numbers.

    On a CPU the mask comes from the counter-based generator of the attention's dropout, seeded by
    torch's: the same bits for the same `torch.manual_seed`, whatever the number of threads. It is
    drawn again in the backward pass instead of being kept.

    Args:
        x: any shape.
        p: probability of dropping a number; the others are multiplied by 1 / (1 - p).
        training: x comes back as it is where this is false.

    Raises ValueError for a probability outside [0, 1].
    """
    fused = x.device.type == "cpu" and x.numel() >= SMALLEST and x.is_floating_point()
    if not (training and fused and 0 < p < 1):
        return F.dropout(x, p, training)
    return drop(x, torch.randint(2**63 - 1, ()), p)


@torch.library.custom_op("graphformer::cpu_dropout", mutates_args=(), device_types="cpu")
def drop(x: Tensor, seed: Tensor, p: float) -> Tensor:
    """Drop by the mask that an int64 seed [] stands for."""
    return load_driver().drop_numbers(x.detach(), p, seed)


@drop.register_fake
def _(x: Tensor, seed: Tensor, p: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.p = inputs[2]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return drop(gradient, *ctx.saved_tensors, ctx.p), None, None  # the mask is a linear map


drop.register_autograd(_backward, setup_context=_save)
