"""Launches of kernels: grids, tile sizes and their tuning."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from graphformer.ops.triton.schedule import RowParts, Schedule

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on tensors of any device."""
TUNED_FROM = 1 << 15
"""Least number of units of a launch that is tuned; smaller ones use the first tile size."""
TUNING_KEY = ["HEADS", "REPEAT", "D", "DV", "DE", "RECTIFIED"]


def power_of_two(width: int) -> int:
    """Return the smallest power of two that is at least `width`, and at least 1."""
    return 1 << max(width - 1, 0).bit_length()


def run_items(
    kernel: Any, items: RowParts, schedule: Schedule, heads: int, block: int, **arguments: Any
) -> None:
    """Launch a kernel over items; `block` is the width of the widest tile."""
    arguments |= {
        "rows": items.rows, "begins": items.begins, "count": len(items.rows),
        "CHUNK": schedule.chunk,
    }  # fmt: skip
    units = len(items.rows) * heads

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (triton.cdiv(units, meta["UNITS"]),)

    launch(kernel, grid, units, tile_sizes(items.long, block), arguments)


def launch(
    kernel: Any, grid: Any, units: int, sizes: list[dict[str, int]], arguments: dict[str, Any]
) -> None:
    """Launch a kernel with the fastest of the tile sizes, or the first if it is not tuned."""
    if INTERPRETED or units < TUNED_FROM or "D" not in arguments:
        kernel[grid](**arguments, **sizes[0])
        return
    fixed = tuple(tuple(size.items()) for size in sizes)
    _tuned(kernel, fixed)[grid](**arguments)


@cache
def tile_sizes(long: bool, block: int) -> list[dict[str, int]]:
    """Return the tile sizes to tune over, the most likely one first.

    LANES is the number of edges of a row per step. There are few sizes because each is compiled, in
    one or two seconds. Sizes too small for one unit of this width are left out.
    """
    if INTERPRETED:  # a program takes 20 ms at any size
        return [{"UNITS": 128, "LANES": 16 if long else 4}]
    sizes = []
    for numbers, lanes, warps in (
        (2048, 4, 4), (1024, 4, 4), (1024, 4, 2), (1024, 4, 1), (2048, 8, 4), (4096, 8, 8),
    ):  # fmt: skip
        lanes *= 4 if long else 1
        if numbers >= lanes * block:
            units = numbers // (lanes * block)
            sizes.append({"UNITS": units, "LANES": lanes, "num_warps": warps})
    return sizes or [{"UNITS": 1, "LANES": 4, "num_warps": 4}]


@cache
def _tuned(kernel: Any, sizes: tuple[tuple[tuple[str, int], ...], ...]) -> Any:
    """Return the kernel with Triton's autotuner, which caches its results on disk."""
    configs = []
    for size in map(dict, sizes):
        warps = size.pop("num_warps")
        configs.append(triton.Config(size, num_warps=warps))
    key = [name for name in TUNING_KEY if name in kernel.arg_names]
    return triton.autotune(configs, key=key, cache_results=True)(kernel)


def check_device(x: Tensor) -> None:
    """Check that Triton can run on a tensor.

    Raises:
        ValueError: when it is not on a CUDA device, or float64.
    """
    if x.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"backend: got 'triton' with tensors on {x.device}, expected tensors on a CUDA device; "
            "choose another backend, or 'auto'"
        )
    if x.dtype == torch.float64:
        raise ValueError(
            "backend: got 'triton' with float64, expected float32 or narrower; choose 'scatter'"
        )
