"""Measurements of a training step: time and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def peak_memory(step: Callable[[], object], device: torch.device | None = None) -> int:
    """The most bytes of tensors alive at once during `step`, over those alive before it.

    Measured, not computed: on a CPU from the allocations that torch's profiler records, on CUDA
    from the allocator's own counter.
    """
    if device is not None and device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent(), torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    sizes = torch.tensor([size for _, size in changes], dtype=torch.int64)
    return int(sizes.cumsum(0).max().clamp(min=0)) if changes else 0


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what native code writes to standard error off the screen: torch 2.13's profiler."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def forward_backward(network: Callable[[], Tensor]) -> Callable[[], None]:
    """A training step without the optimiser: run `network` and send a gradient back."""

    def step() -> None:
        network().float().logsumexp(-1).mean().backward()

    return step


def peak_resident_memory() -> int:
    """The most bytes that this process ever held; 0 where the system does not say (Windows)."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
