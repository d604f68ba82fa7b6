"""Which backend runs a call: the one asked for, or the one that suits."""

from __future__ import annotations

from importlib.util import find_spec
from inspect import signature
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, Causal, Complete, Implicit
from graphformer.ops import cpu, reference, scatter, sdpa
from graphformer.ops.common import AttentionOptions
from graphformer.ops.offset_bias import OffsetBias

Backend = Literal["auto", "reference", "sdpa", "cpu", "scatter", "triton", "flex"]
BACKENDS: dict[str, ModuleType] = {
    "reference": reference,
    "sdpa": sdpa,
    "cpu": cpu,
    "scatter": scatter,
}
LAZY = ("triton", "flex")
"""Backends for CUDA, imported when one is used, so that nobody else waits for them."""
HAS_TRITON = find_spec("triton") is not None
TAKE_RULES = ("graphformer.ops.sdpa", "graphformer.ops.flex")
"""The backends that apply an `OffsetBias` themselves; the others get its value on each edge."""

DENSE = {"cpu": 0.3, "cuda": 0.1}
"""Blocks with more than this share of their edges go through a dense mask, by type of device.

On a CPU the fused kernel and the masked product cost the same at 0.2 to 0.4, depending on widths.
"""
RAGGED = 32_768
"""Samples of several sizes with fewer pairs of nodes a size go through the fused kernel on a CPU.

A dense product takes a call for each size. On 2 cores the fused kernel was 1.4 to 8 times faster
with up to 17,000 pairs a size (sentences, molecules), as fast with 50,000 to 100,000, and 1.3 to
3 times slower with 230,000, over 4 heads of 16 and 12 of 32, forward and backward.
"""
ON_CUDA = {"sizes": 4, "fill": 0.02}
"""Where `auto` changes roads on CUDA. Estimates: NOT YET MEASURED ON A GPU.

| adjacency | backend |
| --- | --- |
| complete or causal, samples of at most `sizes` lengths (a call each) | sdpa |
| rules and their unions, edges at least `fill` of the 128 x 128 blocks that hold any | flex |
| rules that flex cannot take for their options, denser than `DENSE["cuda"]` | sdpa, masked |
| everything else | triton; scatter for float64 and without Triton |

`fill` is what a tensor core's pass over a block costs against one gathered edge: 256 operations a
pair at 4e14 a second in bfloat16, against 256 bytes an edge at 2e12 a second, for width 64.
`make bench-gpu` measures both sides (suites `window` and `crossover`).
"""


def select_backend(
    function: str,
    name: str,
    v: Tensor,
    adjacency: Adjacency,
    options: AttentionOptions,
    *extra: str,
    **known: Any,
) -> ModuleType:
    """The backend asked for, or the one that suits; it must have the function and its `extra`.

    `known` is what else the choice depends on: see `on_cuda`.
    """
    if name == "auto":
        name = auto_backend(function, adjacency, options, v.dtype, **known)
        if not takes(name, function, extra):
            name = "scatter"
    if name not in BACKENDS and name not in LAZY:
        names = ", ".join([*BACKENDS, *LAZY])
        raise ValueError(f"backend must be auto or one of {names}, got {name!r}")
    module = _module(name)
    if not hasattr(module, function):
        raise ValueError(f"backend={name!r} has no {function}; choose another, or 'auto'")
    if not takes(name, function, extra):
        raise ValueError(
            f"backend={name!r} takes no {' or '.join(extra)}; choose another, or 'auto'"
        )
    return module


def _module(name: str) -> ModuleType:
    if name == "triton":
        from graphformer.ops import triton

        return triton
    if name == "flex":
        from graphformer.ops import flex

        return flex
    return BACKENDS[name]


def takes(name: str, function: str, extra: tuple[str, ...]) -> bool:
    """Whether a backend's function has these options, which not all of them have."""
    if not extra:
        return True
    return set(extra) <= set(signature(getattr(_module(name), function)).parameters)


def auto_backend(
    function: str,
    adjacency: Adjacency,
    options: AttentionOptions,
    dtype: torch.dtype = torch.float32,
    **known: Any,
) -> str:
    """The name of the backend that suits a call of `function`, by device and adjacency."""
    device = adjacency.device.type
    if device == "cuda":
        return auto_backend_on_cuda(function, adjacency, options, dtype, **known)
    # A masked product lets NaN through the mask; where samples are known, at least not across them.
    if (
        function == "attention"
        and isinstance(adjacency, Implicit)
        and not sdpa.unsupported_reason(options)
    ):
        plain = isinstance(adjacency, Complete | Causal)
        if device == "cpu" and is_ragged(adjacency):
            return "cpu"
        if plain or adjacency.block_density > DENSE.get(device, 0.1):
            return "sdpa"
    return "cpu" if device == "cpu" else "scatter"


def is_ragged(adjacency: Implicit) -> bool:
    """Whether the samples have many sizes for how few pairs of nodes they have: see `RAGGED`."""
    sizes = len(set(adjacency.blocks))
    pairs = sum(m * n for m, n in adjacency.blocks)
    return sizes > 1 and pairs < RAGGED * sizes


def auto_backend_on_cuda(
    function: str,
    adjacency: Adjacency,
    options: AttentionOptions,
    dtype: torch.dtype,
    rule: OffsetBias | None = None,
    width: int = 0,
) -> str:
    """What suits on CUDA, by density and block structure; see `ON_CUDA`."""
    fused = "triton" if HAS_TRITON and dtype != torch.float64 else "scatter"
    if function != "attention" or not (isinstance(adjacency, Implicit) or adjacency.parts):
        return fused
    plain = isinstance(adjacency, Complete | Causal)
    able = not sdpa.unsupported_reason(options) and isinstance(adjacency, Implicit)
    if able and plain and len(adjacency.buckets) <= ON_CUDA["sizes"]:
        return "sdpa"
    if fused == "triton":
        from graphformer.ops import flex

        if width >= flex.NARROWEST and not flex.unsupported_reason(adjacency, options, rule):
            filled = flex.fill(adjacency.num_edges, *flex.rules_of(adjacency))
            return "flex" if filled >= ON_CUDA["fill"] else fused
    return "sdpa" if able and adjacency.block_density > DENSE["cuda"] else fused
