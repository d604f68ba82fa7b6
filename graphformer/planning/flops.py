"""FLOPs of operators: matrix products by their shapes, attention by its edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.flop_counter import flop_registry

FORWARD, BACKWARD = 4, 8
"""FLOPs per edge and channel: a product for the logits and one for the sum, and their gradients.

What kernels recompute in the backward pass is not counted, as in `6 N D`.
"""


@dataclass
class Flops:
    """FLOPs of a step.

    Attributes:
        matmul: of matrix products and convolutions.
        attention: of attention, by its edges.
    """

    matmul: float = 0.0
    attention: float = 0.0

    @property
    def total(self) -> float:
        """FLOPs of both."""
        return self.matmul + self.attention

    def times(self, factor: float) -> Flops:
        """Return a multiple."""
        return Flops(factor * self.matmul, factor * self.attention)

    def add(self, func: Any, count: float) -> None:
        """Add the FLOPs of one call."""
        if func.name().partition(".")[0] in _ATTENTION:
            self.attention += count
        else:
            self.matmul += count


def count_flops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> float:
    """Return the FLOPs of an operator's call; 0 for operators that are not counted."""
    name = func.name().partition(".")[0]
    if name in _ATTENTION:
        factor, count_channels, first = _ATTENTION[name]
        return factor * count_channels(args[first:])
    formula = flop_registry.get(func.overloadpacket)
    return 0.0 if formula is None else float(formula(*args, **kwargs, out_val=out))


def _fused_channels(args: Sequence[Any]) -> float:
    """Return edges x channels of the fused attention over explicit edges; args begin with q."""
    q, v, indices = args[0], args[2], args[9]
    width = (q.shape[2] + v.shape[2]) / 2 if q.ndim == 3 else v.shape[2] / 2
    return float(indices.shape[0] * q.shape[1] * width)


def _dense_channels(args: Sequence[Any]) -> float:
    """Return edges x channels of attention over samples [B, H, m, D]; args begin with q."""
    q, k, v = args[:3]
    samples, heads, m, width = q.shape
    n = k.shape[2]
    edges = m * (m + 1) / 2 if any(x is True for x in args) else m * n  # is_causal
    return float(samples * heads * edges * (width + v.shape[3]) / 2)


_ATTENTION: dict[str, tuple[int, Callable[[Sequence[Any]], float], int]] = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": (FORWARD, _dense_channels, 0),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": (BACKWARD, _dense_channels, 1),
    "graphformer::cpu_attend": (FORWARD, _fused_channels, 0),
    "graphformer::cpu_attend_backward": (BACKWARD, _fused_channels, 5),
}
"""By operator: FLOPs per edge and channel, edges x channels, and the place of q."""
