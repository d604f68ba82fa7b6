"""Union and intersection of edges that may be repeated."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def combine_multisets(
    edges: list[Tensor], num_sources: int, reduce: Literal["amax", "amin"]
) -> int | Tensor:
    """Return the union (amax) or intersection (amin) of edges [2, E] of one shape.

    An edge is repeated as often as the reduction of its counts in the operands says.

    Returns:
        The number of the operand that has just these edges; without one, the edges, sorted by
        target, then source.
    """
    sources = max(num_sources, 1)
    keys = [target * sources + source for source, target in edges]
    unique, inverse = torch.cat(keys).unique(return_inverse=True)
    counts = torch.stack(
        [
            torch.bincount(which, minlength=len(unique))
            for which in inverse.split([len(key) for key in keys])
        ]
    )  # [operands, distinct edges]
    combined = getattr(counts, reduce)(0)
    for number, count in enumerate(counts):
        if torch.equal(count, combined):
            return number
    repeated = unique.repeat_interleave(combined)
    return torch.stack([repeated % sources, repeated // sources])
