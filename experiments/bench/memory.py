"""Peak memory of a peer: growth of the resident set of a new process, as counted by Linux.

Unlike torch's profiler, this includes memory that a library allocates by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EXPERIMENTS = Path(__file__).parent.parent


def peak(job: dict[str, Any], timeout: float = 600) -> dict[str, Any]:
    """Run `job` in a new process and return its measurements.

    Raises:
        RuntimeError: when the process fails; with the last line that it wrote.
    """
    paths = [str(EXPERIMENTS), str(EXPERIMENTS.parent), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, "-c", "from bench.memory import child; child()", json.dumps(job)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if result.returncode:
        lines = result.stderr.strip().split("\n")
        raise RuntimeError(f"process ended with {result.returncode}: {lines[-1][-300:]}")
    return json.loads(result.stdout.strip().split("\n")[-1])


def child() -> None:
    """Run the job in sys.argv and print its measurements as JSON."""
    job = json.loads(sys.argv[1])
    print(json.dumps(_million(job) if job["task"] == "million" else _peer(job)))


def _peer(job: dict[str, Any]) -> dict[str, Any]:
    """Bytes of a forward and backward pass beyond inputs, outputs and their gradients."""
    import torch

    from bench import graphs, peers

    kinds = {"attention": peers.ATTENTION, "additive": peers.ADDITIVE}
    make = kinds[job["kind"]][job["peer"]]
    small = peers.Work(graphs.uniform(101, 5), 101, job["heads"], job["width"])
    _run(make(small), small.inputs(job["kind"]))  # loads libraries and compiles kernels
    edge_index = graphs.LAWS["uniform"](job["nodes"], job["degree"])
    work = peers.Work(edge_index, job["nodes"], job["heads"], job["width"])
    call, inputs = make(work), work.inputs(job["kind"])
    results = [torch.full_like(x, 1.0) for x in (inputs[-1], *inputs)]  # out and the gradients
    needed = sum(x.nbytes for x in results)
    del results
    before = _reset()
    _run(call, inputs)
    grown = _peak() - before
    return {"grown": grown, "needed": needed, "over": max(grown - needed, 0)}


def _million(job: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of the whole process after the edges were drawn, and the time of the passes."""
    from bench import graphs, peers

    work = peers.Work(
        graphs.uniform(job["nodes"], job["degree"]), job["nodes"], job["heads"], job["width"]
    )
    _reset()
    start = time.perf_counter()
    call = peers.ours(work)
    made = time.perf_counter() - start
    inputs = work.inputs("attention")
    _run(call, inputs)
    start = time.perf_counter()
    _run(call, inputs)
    return {"seconds": time.perf_counter() - start, "adjacency": made, "peak": _peak()}


def _run(call: Any, inputs: list[Any]) -> None:
    for x in inputs:
        x.grad = None
    out = call(*inputs)
    out.backward(out.detach())


def _reset() -> int:
    """Reset the peak and return the resident bytes."""
    import ctypes
    import gc

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
