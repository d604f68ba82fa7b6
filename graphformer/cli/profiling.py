"""Measurements of a training step: time and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def peak_memory(step: Callable[[], object], device: torch.device | None = None) -> int:
    """Return the largest number of bytes that tensors allocated in `step` occupy at one time.

    On a CPU the number comes from the allocations that torch's profiler records, on CUDA from the
    allocator's counter.
    """
    if device is not None and device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    profile = torch.profiler.profile(activities=activities, profile_memory=True)
    with _silent_stderr(), profile as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    sizes = torch.tensor([size for _, size in changes], dtype=torch.int64)
    return int(sizes.cumsum(0).max().clamp(min=0)) if changes else 0


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what native code writes to standard error, as torch 2.13's profiler does."""
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
    """Return a training step without the optimiser: a forward pass and a backward pass."""

    def step() -> None:
        network().float().logsumexp(-1).mean().backward()

    return step


def peak_resident_memory() -> int:
    """Return the peak resident set size of this process in bytes; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
