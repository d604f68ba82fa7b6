"""The hash of `LSH`: the largest of the entries of a rotated vector and of their negatives."""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.adjacency import RowEdges

_NUMBERS = 1 << 18
"""Rotated vectors are hashed in parts of about this many numbers, which fit into the cache."""


def hashed(x: Tensor, rounds: int, buckets: int, seed: int) -> Tensor:
    """Return the bucket argmax([x R, -x R]) of each vector in each round, int64 [R, H, N].

    Of equal entries the first one counts, and NaN is larger than all numbers.

    Args:
        x: vectors, [N, H, D].
        rounds: number of rotations.
        buckets: number of buckets, even.
        seed: of the rotations.
    """
    count, heads, width = x.shape
    rotation = rotations(width, rounds, buckets // 2, seed).to(x.device)
    columns = rotation.transpose(0, 1).flatten(1)  # [D, R buckets / 2]
    if not RowEdges.is_supported(x):
        rotated = (x.float() @ columns).unflatten(-1, (rounds, -1))
        largest = rotated.abs().argmax(-1, keepdim=True)
        is_negative = rotated.gather(-1, largest) < 0
        return (largest + is_negative * (buckets // 2)).squeeze(-1).permute(2, 1, 0).contiguous()
    found = torch.empty(rounds, heads, count, dtype=torch.int64)
    step = max(1, _NUMBERS // (heads * columns.shape[1]))
    for first in range(0, count, step):
        part = x[first : first + step].reshape(-1, width).float() @ columns
        # The order of the absolute values is that of their bits as integers
        bits = part.view(torch.int32).view(-1, heads, rounds, buckets // 2)
        _compiled()(bits.numpy(), found.numpy(), first)
    return found


@lru_cache(maxsize=16)
def rotations(width: int, rounds: int, count: int, seed: int) -> Tensor:
    """Return random rotations, float32 [R, D, count]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rounds, width, count, generator=generator)


def _largest(bits, found, first):  # type: ignore[no-untyped-def]
    """Write the bucket of each vector of float32 bits [n, H, R, b] to found [R, H, first + n]."""
    magnitude = np.int32(0x7FFFFFFF)
    for node in range(bits.shape[0]):
        for head in range(bits.shape[1]):
            for r in range(bits.shape[2]):
                row = bits[node, head, r]
                # m = max |x_j|, in a loop that is compiled to vector instructions
                most = np.int32(0)
                for j in range(row.shape[0]):
                    most = max(most, row[j] & magnitude)
                place = 0
                while row[place] & magnitude != most:
                    place += 1
                # A negative number has the highest bit; zero and NaN count as positive
                is_negative = row[place] < 0 and 0 < most <= 0x7F800000
                found[r, head, first + node] = place + is_negative * row.shape[0]


@cache
def _compiled() -> Callable[..., Any]:
    """The compiled search; numba is loaded on its first call."""
    from graphformer.jit import cached_njit

    compiled: Callable[..., Any] = cached_njit(_largest)
    return compiled
