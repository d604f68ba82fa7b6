"""What operators allocate within a call, beside their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def workspace(func: Any, args: Sequence[Any], out: Any) -> int:
    """Return the bytes that an operator on a CPU allocates and frees within a call."""
    rule = _RULES.get(func.name())
    return 0 if rule is None else rule(args, out)


def _upcast_copies(args: Sequence[Any], out: Any) -> int:
    """Return the float32 copies of the inputs and outputs of the fused attention kernels."""
    narrow = (torch.bfloat16, torch.float16)
    tensors = [x for x in (*args, *out) if isinstance(x, Tensor) and x.dtype in narrow]
    return sum(4 * x.numel() for x in tensors)


_RULES: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "graphformer::cpu_attend": _upcast_copies,
    "graphformer::cpu_attend_backward": _upcast_copies,
}
