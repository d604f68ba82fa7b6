"""Buckets of samples, and the spans of nodes in their bucket, which both forms of edges share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Buckets(NamedTuple):
    """The buckets of the nodes of all samples in R rounds."""

    query: Tensor
    """The bucket of each query, int64 [R, H, N]."""
    key: Tensor
    """The bucket of each key, int64 [R, Hkv, N]."""
    lengths: tuple[int, ...]
    """The number of nodes of each sample."""


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
