"""Buckets of samples, and the spans of nodes in their bucket, which both forms of edges share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Hashed(NamedTuple):
    """The buckets of c samples of n nodes in R rounds."""

    nodes: Tensor
    """The nodes of the samples, int64 [c, n]."""
    query: Tensor
    """The bucket of each query, int64 [R, c, H, n]."""
    key: Tensor
    """The bucket of each key, int64 [R, c, Hkv, n]."""


class Choice(NamedTuple):
    """Which nodes of a bucket are sources: arguments of `LSH`."""

    buckets: int
    window: int
    causal: bool
    shared: bool


def bounds(
    after: Tensor, start: Tensor, end: Tensor, window: int, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Return the first rank of the span and the rank after its last.

    Args:
        after: the number of keys up to the target, in the order of the ranks.
        start, end: the ranks of the bucket.
        window: maximal number of sources.
        causal: whether the span ends at the target.
    """
    if causal:
        return torch.maximum(after - window, start), after
    low = torch.maximum(after - (window + 1) // 2, start)
    high = torch.minimum(low + window, end)
    return torch.maximum(high - window, start), high
