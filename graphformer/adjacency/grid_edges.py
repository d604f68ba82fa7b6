"""Edges of grids of any number of axes, with a radius for each axis and a causal first axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from graphformer.adjacency.csr import CSR, _index_dtype

Shape = tuple[int, ...]


def grid_edges(
    shapes: Sequence[Shape], radius: Sequence[int], *, causal: bool, device: torch.device
) -> CSR:
    """Return the edges from the cells of each box to its centre; cells are numbered in C order.

    Args:
        shapes: the sizes of each grid along its A axes.
        radius: the largest distance along each axis, A ints.
        causal: leave out cells that are later along the first axis.
        device: of the result.
    """
    sizes = [prod(shape) for shape in shapes]
    total = sum(sizes)
    degrees, indices = [], []
    for shape, start in zip(shapes, accumulate(sizes, initial=0), strict=False):
        degree, sources = _one_grid(shape, tuple(radius), causal)
        degrees.append(degree)
        indices.append(sources + start)
    empty = torch.zeros(0, dtype=torch.int64)
    per_target, source = (torch.cat([empty, *parts]) for parts in (degrees, indices))
    dtype = _index_dtype(len(source), total, total)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), per_target.cumsum(0)])
    return CSR(indptr.to(device, dtype), source.to(device, dtype), (total, total))


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _one_grid(shape: Shape, radius: Shape, causal: bool) -> tuple[Tensor, Tensor]:
    """The number of sources of each cell, [M], and the sources, ascending by target, [E]."""
    if not prod(shape):
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    cells = torch.cartesian_prod(*(torch.arange(size) for size in shape)).reshape(-1, len(shape))
    limits = torch.tensor(radius).clamp(max=max(shape))
    first = (cells - limits).clamp(min=0)
    last = torch.minimum(cells + limits, torch.tensor(shape) - 1)
    if causal:
        last[:, 0] = cells[:, 0]
    extent = last - first + 1  # of the box, along each axis
    degree = extent.prod(1)
    target = torch.arange(len(cells)).repeat_interleave(degree)
    rank = torch.arange(len(target)) - (degree.cumsum(0) - degree)[target]
    # The digits of the rank in the box are offsets along the axes, the last axis first.
    source, stride = torch.zeros_like(rank), 1
    for axis in reversed(range(len(shape))):
        width = extent[target, axis]
        source += (first[target, axis] + rank % width) * stride
        rank, stride = rank // width, stride * shape[axis]
    return degree, source
