"""Compilation of all Triton kernels for compute capabilities 8.0 and 9.0, on any machine.

The launches of a forward and backward pass are recorded instead of run, and each kernel is compiled
to machine code for the arguments of its launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import triton

from bench import gpu_smoke
from graphformer import ops

Launch = tuple[Any, dict[str, Any]]
CAPABILITIES = 80, 90


def cases() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the name of each kernel and a function that compiles it."""
    for dtype in gpu_smoke.TOLERANCE:
        for function in gpu_smoke.FUNCTIONS:
            launches: dict[tuple[Any, ...], Launch] = {}
            with recorded() as found:
                _run(function, dtype)
            for kernel, arguments in found:
                key = kernel.__name__, arguments.get("begins") is not None, arguments.get("LANES")
                launches.setdefault(key, (kernel, arguments))
            for (kernel_name, split, lanes), launch in launches.items():
                form = f"{', of parts' if split else ''}{f', {lanes} lanes' if lanes else ''}"
                name = f"{function}, {dtype}: {kernel_name}{form}"
                yield name.replace("torch.", ""), lambda launch=launch: _compile(launch)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Record the kernels and arguments of all launches; no kernel runs."""
    from graphformer.ops.triton import driver

    found: list[Launch] = []
    run, check = triton.runtime.jit.JITFunction.run, driver.check_device
    triton.runtime.jit.JITFunction.run = lambda kernel, *_, **arguments: found.append(
        (kernel, arguments)
    )
    driver.check_device = lambda x: None
    try:
        yield found
    finally:
        triton.runtime.jit.JITFunction.run, driver.check_device = run, check


def compiled(launch: Launch, capability: int) -> Any:
    """Compile a kernel to machine code for the arguments of a launch."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, arguments = launch
    signature, constants, hints = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[(place,)] = "constexpr", value
            continue
        signature[parameter.name] = triton.runtime.jit.mangle_type(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            hints[(place,)] = [["tt.divisibility", 16]]
    return triton.compile(
        ASTSource(kernel, signature, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": arguments.get("num_warps", 4)},
    )


def _compile(launch: Launch) -> dict[str, Any]:
    sizes = {}
    for capability in CAPABILITIES:
        code = compiled(launch, capability).asm
        if f"sm_{capability}" not in code["ptx"]:
            return {"error": f"got no code for {capability}"}
        sizes[f"bytes for {capability}"] = len(code["cubin"])
    return sizes


def _run(function: str, dtype: torch.dtype) -> None:
    """Record forward and backward with all options, on a graph with rows of all lengths."""
    edges = gpu_smoke.hub()
    tensors, named, options = gpu_smoke.inputs(function, edges, everything=True)
    tensors = [x.to(dtype).requires_grad_() for x in tensors]
    named = {name: x.to(dtype).requires_grad_() for name, x in named.items()}
    out, weights = getattr(ops, function)(*tensors, edges, backend="triton", **named, **options)
    (out.sum() + weights.sum()).backward()
