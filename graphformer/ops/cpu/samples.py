"""Small samples where every target has every source, which have kernels of their own."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, Complete
from graphformer.ops.common import AttentionOptions
from graphformer.ops.fused.custom_op import is_plain

WIDTHS = {8, 16, 32}
"""Head widths of these kernels, where the values have that of the keys; wider ones gain nothing."""
LARGEST = 128
"""Most sources of a sample: its keys and values then stay in the fastest caches."""
MOST_PAIRS = LARGEST**2
"""Of a sample, which is one piece of work for each head."""


class Samples(NamedTuple):
    """The borders of the samples among the nodes, int64 [B + 1] each."""

    targets: Tensor
    sources: Tensor
    number: int
    """B."""
    largest: int
    """Sources of the largest sample, rounded up to a multiple of 16."""


def small_samples(
    q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency, options: AttentionOptions
) -> Samples | None:
    """Return the samples of a call that these kernels compute; None for other calls."""
    has_values = options["bias"] is not None or options["edge_weight"] is not None
    if not isinstance(adjacency, Complete) or has_values:
        return None
    if options["dropout"] or options["return_weights"]:
        return None
    if q.shape[2] not in WIDTHS or v.shape[2] != q.shape[2] or not is_plain((q, k, v)):
        return None
    return _samples(adjacency.blocks)


@lru_cache(maxsize=256)
def _samples(blocks: tuple[tuple[int, int], ...]) -> Samples | None:
    largest = max((sources for _, sources in blocks), default=0)
    pairs = max((targets * sources for targets, sources in blocks), default=0)
    if not pairs or largest > LARGEST or pairs > MOST_PAIRS:
        return None
    targets, sources = (list(accumulate(sizes, initial=0)) for sizes in zip(*blocks, strict=True))
    borders = torch.tensor(targets), torch.tensor(sources)
    return Samples(*borders, len(blocks), -(-largest // 16) * 16)
