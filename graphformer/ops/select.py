"""Selects the backend of a call: the named one, or the fastest that supports the call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeGuard, cast

import torch
from torch import Tensor

from graphformer.adjacency import Adjacency, Causal, Complete, HeadEdges, Implicit
from graphformer.ops import cpu, reference, scatter, sdpa
from graphformer.ops.backend import (
    Backend,
    BackendName,
    EdgeBackend,
    FunctionName,
    OffsetBiasBackend,
)
from graphformer.ops.common import AttentionOptions
from graphformer.ops.offset_bias import OffsetBias
from graphformer.ops.transforms import has_tangent, is_transformed

BACKENDS: dict[str, Backend] = {
    "reference": reference,
    "sdpa": sdpa,
    "cpu": cpu,
    "scatter": scatter,
}
LAZY = ("triton", "flex")
"""Backends for CUDA. Imported on first use, which keeps `import graphformer` fast elsewhere."""
HAS_TRITON = find_spec("triton") is not None

DENSE = {"cpu": 0.3, "cuda": 0.1}
"""Samples with more than this share of their edges run as a masked dense product, by device type.

On a CPU the fused kernel and the masked product take equal time at 0.2 to 0.4, depending on widths.
"""
HEADS_DENSE = {"density": 0.2, "pairs": 1 << 24}
"""Edges by head run as masked dense products on a CPU from this density of their samples on.

At most for this number of pairs of nodes over all heads, because the masks take 4 bytes each.
"""
RAGGED = 32_768
"""Ragged batches with fewer node pairs per distinct sample size run the fused CPU kernel.

A dense product takes one call per size. On 2 cores the fused kernel was 1.4 to 8 times faster with
up to 17,000 pairs per size (sentences, molecules), equally fast with 50,000 to 100,000, and 1.3 to
3 times slower with 230,000, over 4 heads of 16 and 12 of 32, forward and backward.
"""
ON_CUDA = {"sizes": 4, "fill": 0.02}
"""Thresholds of `auto` on CUDA. Estimates: NOT YET MEASURED ON A GPU.

| adjacency | backend |
| --- | --- |
| complete or causal, samples of at most `sizes` lengths (a call each) | sdpa |
| rules and their unions, edges at least `fill` of the 128 x 128 blocks that hold any | flex |
| rules with options that flex does not support, denser than `DENSE["cuda"]` | sdpa, masked |
| everything else | triton; scatter for float64 and without Triton |

`fill` is the cost of one pair in a tensor core's pass over a block relative to one gathered edge:
256 operations per pair at 4e14 per second in bfloat16, against 256 bytes per edge at 2e12 per
second, for width 64. `make bench-gpu` measures both (suites `window` and `crossover`).
"""


_only_torch_operators = False
"""Whether "auto" is restricted; a plain variable, which torch.compile can read."""


@contextmanager
def without_custom_operators() -> Iterator[None]:
    """Let "auto" choose backends of torch's own operators only, which other formats can express.

    In all threads of the process.
    """
    global _only_torch_operators
    before, _only_torch_operators = _only_torch_operators, True
    try:
        yield
    finally:
        _only_torch_operators = before


def select_backend(
    function: FunctionName,
    name: BackendName,
    tensors: Sequence[Tensor | None],
    adjacency: Adjacency,
    options: AttentionOptions,
    *,
    offset_bias: OffsetBias | None = None,
    width: int = 0,
) -> Backend:
    """Return the named backend; for "auto", the one that `auto_backend` chooses.

    In a transform of `torch.func` and for forward-mode derivatives, "auto" is a backend of torch's
    own operators.

    Args:
        function: the attention function that it must have.
        name: of the backend.
        tensors: the inputs, of which the first has their dtype.
        adjacency, options: of the call.
        offset_bias: a bias that is given as a rule.
        width: the smallest head width.

    Raises:
        ValueError: when the name is unknown or the backend lacks the function.
        NotImplementedError: when the named backend does not support the transform.
    """
    chosen: str = name
    if name == "auto":
        dtype = torch.float32 if tensors[0] is None else tensors[0].dtype
        chosen = auto_backend(
            function, adjacency, options, dtype, offset_bias=offset_bias, width=width
        )
    if chosen not in BACKENDS and chosen not in LAZY:
        names = ", ".join(["auto", *BACKENDS, *LAZY])
        raise ValueError(f"backend: got {name!r}, expected one of {names}")
    backend = _import(chosen)
    forward_mode = has_tangent([*tensors, options["bias"], options["edge_weight"]])
    if name == "auto" and forward_mode:
        return scatter
    if backend.HAS_CUSTOM_OPERATORS and name == "auto" and _only_torch_operators:
        return scatter
    if backend.HAS_CUSTOM_OPERATORS and (forward_mode or is_transformed()):
        if name == "auto":
            return scatter
        raise NotImplementedError(
            f"backend: got {name!r}, which supports neither torch.func nor forward-mode "
            "derivatives; choose 'scatter' or 'auto'"
        )
    if not hasattr(backend, function):
        raise ValueError(
            f"backend: got {name!r}, which has no {function}; choose another, or 'auto'"
        )
    return backend


def select_edge_backend(
    function: FunctionName,
    name: BackendName,
    tensors: Sequence[Tensor | None],
    adjacency: Adjacency,
    options: AttentionOptions,
) -> EdgeBackend:
    """Return what `select_backend` does, for the functions that only an `EdgeBackend` has."""
    return cast(EdgeBackend, select_backend(function, name, tensors, adjacency, options))


def applies_offset_bias(backend: Backend) -> TypeGuard[OffsetBiasBackend]:
    """Whether a backend computes an `OffsetBias` itself."""
    return backend.APPLIES_OFFSET_BIAS


def _import(name: str) -> Backend:
    if name == "triton":
        from graphformer.ops import triton

        return triton
    if name == "flex":
        from graphformer.ops import flex

        return flex
    return BACKENDS[name]


def auto_backend(
    function: FunctionName,
    adjacency: Adjacency,
    options: AttentionOptions,
    dtype: torch.dtype = torch.float32,
    *,
    offset_bias: OffsetBias | None = None,
    width: int = 0,
) -> str:
    """Return the name of the fastest backend for a call, by device and adjacency."""
    device = adjacency.device.type
    if isinstance(adjacency, Implicit) and adjacency.has_symbolic_sizes:
        return "sdpa"  # the edges of a symbolic number of nodes cannot be listed
    if device == "cuda":
        return auto_backend_on_cuda(
            function, adjacency, options, dtype, offset_bias=offset_bias, width=width
        )
    if isinstance(adjacency, HeadEdges) and function == "attention" and device == "cpu":
        return "sdpa" if _is_dense_by_head(adjacency, options) else "cpu"
    # Rules only: a masked product lets NaN pass the mask, but not across samples that are known.
    dense = isinstance(adjacency, Implicit) and not sdpa.unsupported_reason(options)
    if function == "attention" and isinstance(adjacency, Implicit) and dense:
        if device == "cpu" and is_ragged(adjacency):
            return "cpu"
        maskless = isinstance(adjacency, Complete | Causal)
        if maskless or adjacency.block_density > DENSE.get(device, 0.1):
            return "sdpa"
    return "cpu" if device == "cpu" else "scatter"


def _is_dense_by_head(adjacency: HeadEdges, options: AttentionOptions) -> bool:
    """Whether edges by head are dense enough for masked products, and few: see `HEADS_DENSE`."""
    assert adjacency.heads is not None
    if torch.compiler.is_compiling() or options["bias"] is not None:
        return False
    if sdpa.unsupported_reason(options) or not (adjacency.is_coalesced and adjacency.samples):
        return False
    pairs = sum(size**2 for size in adjacency.samples) * adjacency.heads.shape[1]
    dense = adjacency.sample_density >= HEADS_DENSE["density"]
    sizes = len(set(adjacency.samples))
    return dense and pairs <= HEADS_DENSE["pairs"] and pairs >= RAGGED * (sizes - 1)


def is_ragged(adjacency: Implicit) -> bool:
    """Whether samples have several sizes and too few node pairs per size: see `RAGGED`."""
    sizes = len(set(adjacency.blocks))
    pairs = sum(m * n for m, n in adjacency.blocks)
    return sizes > 1 and pairs < RAGGED * sizes


def auto_backend_on_cuda(
    function: FunctionName,
    adjacency: Adjacency,
    options: AttentionOptions,
    dtype: torch.dtype,
    *,
    offset_bias: OffsetBias | None = None,
    width: int = 0,
) -> str:
    """Return the name of the fastest backend on CUDA, by density and block structure: `ON_CUDA`."""
    fused = "triton" if HAS_TRITON and dtype != torch.float64 else "scatter"
    if function != "attention" or not (isinstance(adjacency, Implicit) or adjacency.parts):
        return fused
    maskless = isinstance(adjacency, Complete | Causal)
    dense = isinstance(adjacency, Implicit) and not sdpa.unsupported_reason(options)
    if dense and maskless and len(adjacency.buckets) <= ON_CUDA["sizes"]:
        return "sdpa"
    if fused == "triton":
        from graphformer.ops import flex

        reason = flex.unsupported_reason(adjacency, options, offset_bias)
        if width >= flex.MIN_WIDTH and not reason:
            filled = flex.fill(adjacency.num_edges, *flex.rules_of(adjacency))
            return "flex" if filled >= ON_CUDA["fill"] else fused
    return "sdpa" if dense and adjacency.block_density > DENSE["cuda"] else fused


def mask_heads(run: Backend, adjacency: Adjacency, q: Tensor, options: AttentionOptions) -> None:
    """Give a backend that shares edges between heads a bias of minus infinity on absent ones."""
    if isinstance(adjacency, HeadEdges) and not run.SUPPORTS_HEAD_EDGES:
        options["bias"] = adjacency.head_bias(options["bias"], q.shape[1], q.dtype)
