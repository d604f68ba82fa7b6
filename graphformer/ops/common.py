"""What the backends share: the options of every attention, grouped heads, dropout."""

from __future__ import annotations

import logging
import sys
from typing import TypedDict

import torch
from torch import Tensor


class AttentionOptions(TypedDict):
    """What happens on the edges, the same on every backend; checked by the dispatch."""

    bias: Tensor | None
    """Added to the logits, [E, H], in edge order."""
    edge_weight: Tensor | None
    """Multiplies the logits before the bias, [E, H] or [E, 1], in edge order."""
    dropout: float
    """The probability of dropping an attention weight."""
    seed: Tensor | None
    """Of the dropout, int64 scalar; given if dropout > 0."""
    return_weights: bool
    """Whether to return the weights [E, H], in edge order, as the second result."""


def per_head(x: Tensor, heads: int) -> Tensor:
    """Repeat grouped heads [N, Hkv, D] so that there is one a query head, [N, H, D]."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def upcast(*tensors: Tensor) -> list[Tensor]:
    """Half-precision tensors in float32, as all backends accumulate; others as they are."""
    half = (torch.float16, torch.bfloat16)
    return [x.float() if x.dtype in half else x for x in tensors]


def dropout_mask(num_edges: int, heads: int, dropout: float, seed: Tensor) -> Tensor:
    """Which weights survive dropout, bool [E, H] by CSR slot.

    Counter-based, so that every backend drops the same weights, forward and backward, in any
    order: the splitmix64 generator (Steele et al., 2014, doi:10.1145/2660193.2660195) at position
    `slot * H + head + 1`, of which the upper 24 bits are compared with the probability.
    """
    counter = torch.arange(1, num_edges * heads + 1, device=seed.device)
    z = seed + counter * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    z = z ^ _shifted(z, 31)
    return (_shifted(z, 40) >= round(dropout * 2**24)).view(num_edges, heads)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right of int64, where torch has the arithmetic one."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned one; int64 products wrap, as the generator wants."""
    return value - (1 << 64)


_log = logging.getLogger("graphformer")


def notice(message: str) -> None:
    """Log lines at level INFO; without a log at that level, write them to standard error."""
    _log.info("%s", message)
    if not (_log.isEnabledFor(logging.INFO) and _log.hasHandlers()):
        print("\n".join(f"graphformer: {line}" for line in message.split("\n")), file=sys.stderr)
