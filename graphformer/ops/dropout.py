"""Fast dropout on a CPU, where torch's generator draws numbers one after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.ops.cpu.loading import load_driver
from graphformer.ops.transforms import has_tangent, is_transformed

MIN_ELEMENTS = 1 << 14
"""Smaller tensors run torch's dropout, which is then faster than launching the kernel."""


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`, fast on a CPU: same distribution, other random numbers.

    On a CPU the mask comes from the counter-based generator of the attention's dropout, seeded by
    torch's: equal bits for equal `torch.manual_seed`, for any number of threads. The backward pass
    computes it again instead of storing it.

    Args:
        x: any shape.
        p: probability of dropping an element; the others are multiplied by 1 / (1 - p).
        training: whether to drop; otherwise x is returned.

    Raises:
        ValueError: when the probability is outside [0, 1].
    """
    fused = x.device.type == "cpu" and x.numel() >= MIN_ELEMENTS and x.is_floating_point()
    if not (training and fused and 0 < p < 1) or is_transformed() or has_tangent([x]):
        return F.dropout(x, p, training)
    return drop(x, torch.randint(2**63 - 1, ()), p)


@torch.library.custom_op("graphformer::cpu_dropout", mutates_args=(), device_types="cpu")
def drop(x: Tensor, seed: Tensor, p: float) -> Tensor:
    """Multiply x by the mask of an int64 seed [], and by 1 / (1 - p)."""
    return load_driver().dropout(x.detach(), p, seed)


@drop.register_fake
def _(x: Tensor, seed: Tensor, p: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.p = inputs[2]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return drop(gradient, *ctx.saved_tensors, ctx.p), None, None  # linear in x


drop.register_autograd(_backward, setup_context=_save)
