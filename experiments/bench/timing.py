"""Comparison of the peers' results, and timing of the peers in interleaved rounds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
Step = Callable[[], tuple[float, float]]


class WrongResultError(Exception):
    """A peer's outputs or gradients differ from the expected ones."""


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    quartiles = torch.tensor(values, dtype=torch.float64).quantile(
        torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    )
    return dict(zip(("median", "q1", "q3"), quartiles.tolist(), strict=True))


def forward_backward(call: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor) -> Step:
    """Return a step that returns the seconds of its forward pass and of both passes."""
    synchronize = torch.cuda.synchronize if gradient.is_cuda else (lambda: None)

    def step() -> tuple[float, float]:
        for x in inputs:
            x.grad = None
        synchronize()
        start = time.perf_counter()
        out = call(*inputs)
        synchronize()
        middle = time.perf_counter()
        out.backward(gradient)
        synchronize()
        return middle - start, time.perf_counter() - start

    return step


def check(
    call: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor, expected: Any
) -> Any:
    """Return output and gradients of a call, compared with `expected` unless that is None.

    Raises:
        WrongResultError: when they differ.
    """
    for x in inputs:
        x.grad = None
    out = call(*inputs)
    out.backward(gradient)
    results = [out.detach(), *(x.grad.clone() for x in inputs)]
    if expected is not None:
        names = ["output", *map(str, range(1, len(results)))]
        for name, got, want in zip(names, results, expected, strict=True):
            error = float((got - want).abs().max() / want.abs().max().clamp(min=1e-6))
            if not error < TOLERANCE[got.dtype]:
                raise WrongResultError(f"{name} differs by {error:.1e} of the largest value")
    return results


def interleaved(
    steps: dict[str, Step], seconds: float, most: int = 25, least: int = 5
) -> dict[str, list[tuple[float, float]]]:
    """Run the steps in rounds of changing order for about `seconds`, after one round to warm up.

    Interleaved because a machine's speed drifts; ratios are taken within rounds.
    """
    names = list(steps)
    once = 0.0
    for name in names:
        once += steps[name]()[1]
    rounds = int(min(most, max(least, seconds / once)))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                times[name].append(steps[name]())
    finally:
        gc.enable()
    return times


def ratios(times: dict[str, list[tuple[float, float]]], ours: str) -> dict[str, Any]:
    """Return each peer's seconds, forward and both passes, and their ratios to ours."""
    result = {}
    for name, pairs in times.items():
        entry: dict[str, Any] = {}
        for place, label in enumerate(("forward", "both")):
            entry[label] = summary([pair[place] for pair in pairs])
            multiples = [a[place] / b[place] for a, b in zip(pairs, times[ours], strict=True)]
            entry[f"{label} ratio"] = summary(multiples)
        entry["rounds"] = len(pairs)
        result[name] = entry
    return result
