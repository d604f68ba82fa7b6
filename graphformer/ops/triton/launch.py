"""Runs the kernels: grids, tile sizes, tuning."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from graphformer.ops.triton.plan import Items, LaunchPlan

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on tensors of any device."""
TUNED_FROM = 1 << 15
"""Units from which on a launch is tuned; smaller ones take the first of its tiles."""
KEY = ["HEADS", "REPEAT", "D", "DV", "DE", "RECTIFIED"]


def power_of_two(width: int) -> int:
    """The smallest power of two that is at least `width`, and at least 1."""
    return 1 << max(width - 1, 0).bit_length()


def run_items(
    kernel: Any, items: Items, plan: LaunchPlan, heads: int, block: int, **arguments: Any
) -> None:
    """Run a kernel over a launch's items; `block` is the widest row that a tile holds."""
    arguments |= {
        "rows": items.rows, "begins": items.begins, "count": len(items.rows), "CHUNK": plan.chunk,
    }  # fmt: skip
    units = len(items.rows) * heads

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (triton.cdiv(units, meta["UNITS"]),)

    launch(kernel, grid, units, tiles(items.long, block), arguments)


def launch(
    kernel: Any, grid: Any, units: int, sizes: list[dict[str, int]], arguments: dict[str, Any]
) -> None:
    """Run a kernel with the best of the tile sizes, or the first where tuning does not pay."""
    if INTERPRETED or units < TUNED_FROM or "D" not in arguments:
        kernel[grid](**arguments, **sizes[0])
        return
    fixed = tuple(tuple(size.items()) for size in sizes)
    _tuned(kernel, fixed)[grid](**arguments)


@cache
def tiles(long: bool, block: int) -> list[dict[str, int]]:
    """The tiles worth trying, the likely best one first; lanes are edges of a row at a time.

    Few, for each is compiled where a launch is tuned, a second or two. A tile that fits no unit at
    this width is left out.
    """
    if INTERPRETED:  # each program costs 20 ms whatever its size
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
    """The kernel with Triton's tuner, whose findings stay in Triton's cache on disk."""
    configs = []
    for size in map(dict, sizes):
        warps = size.pop("num_warps")
        configs.append(triton.Config(size, num_warps=warps))
    key = [name for name in KEY if name in kernel.arg_names]
    return triton.autotune(configs, key=key, cache_results=True)(kernel)


def check_device(x: Tensor) -> None:
    """Refuse tensors that Triton cannot run on; ValueError."""
    if x.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"backend='triton' needs tensors on a CUDA device, got {x.device}; choose another "
            "backend, or 'auto'"
        )
    if x.dtype == torch.float64:
        raise ValueError(
            "backend='triton' computes in float32 and takes no float64; choose backend='scatter'"
        )
