"""Check and measure the CUDA kernels in at most 8 minutes: `python experiments/gpu_quick.py`.

Needs torch, triton, numba, numpy, networkx and PyG, and no installation of graphformer: set
PYTHONPATH to the checkout. Each result is written as soon as it is measured, so that an interrupted
run leaves the most important ones. On a machine without CUDA, `TRITON_INTERPRET=1` runs the smoke
test in Triton's interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT)]

import torch  # noqa: E402
from bench import gpu_compile, gpu_figures, gpu_smoke  # noqa: E402

PACKAGES = ("torch", "triton", "numba", "torch-geometric", "anemoi-models")


def main(argv: list[str] | None = None) -> int:
    """Run all checks and figures until time is out; return 1 if a check failed."""
    options = parse(argv)
    deadline = time.monotonic() + options.seconds
    # Kernels of the smoke test are compiled first; the figures get at least half of the time.
    smoke_deadline = deadline if options.smoke else deadline - options.seconds / 2
    results: dict[str, Any] = {"environment": environment(), "smoke": {}, "figures": {}}
    print(json.dumps(results["environment"]), flush=True)
    write(options.out, results)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not interpreted:
        print("no CUDA device: kernels are compiled for 8.0 and 9.0 only, none runs")
    if has_gpu or interpreted:
        device = "cuda" if has_gpu else "cpu"
        smoke = ((name, checked(run, limit)) for name, run, limit in gpu_smoke.cases(device))
        stage("smoke", smoke, results, options.out, smoke_deadline)
    if has_gpu and not options.smoke:
        figures = gpu_figures.figures(quick=options.quick)
        stage("figures", figures, results, options.out, deadline)
    if not interpreted:
        results["compiled"] = {}
        stage("compiled", gpu_compile.cases(), results, options.out, deadline)
    failures = [
        f"{part}: {name}"
        for part in ("smoke", "figures", "compiled")
        for name, result in results.get(part, {}).items()
        if "error" in result
    ]
    print(f"written to {options.out}; {len(failures)} failures", *failures, sep="\n  ")
    return int(bool(failures))


def stage(
    part: str,
    runs: Iterator[tuple[str, Callable[[], dict[str, Any]]]],
    results: dict[str, Any],
    out: Path,
    deadline: float,
) -> None:
    """Run named functions in order; print and write each result, an exception as its error."""
    for name, run in runs:
        if time.monotonic() > deadline:
            print(f"{part}: time is out before {name}")
            results[part].setdefault("not run", {"first": name})
            break
        start = time.monotonic()
        try:
            result = run()
        except Exception as error:  # noqa: BLE001 - a failed kernel must not end the run
            last = traceback.format_exc().splitlines()[-6:]
            result = {"error": f"{type(error).__name__}: {error}"[:500], "traceback": last}
        result["took, s"] = round(time.monotonic() - start, 2)
        results[part][name] = result
        print(f"{part}: {name}: {json.dumps(result)}", flush=True)
        write(out, results)


def checked(run: Callable[[], float], limit: float) -> Callable[[], dict[str, Any]]:
    """Return a function that runs a check and fails above its tolerance."""

    def check() -> dict[str, Any]:
        difference = run()
        if not difference <= limit:
            return {"error": f"got a difference of {difference:.1e}, expected at most {limit}"}
        return {"difference": difference}

    return check


def environment() -> dict[str, Any]:
    """Device, driver and versions."""
    found: dict[str, Any] = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["device"] = properties.name
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["memory, GiB"] = round(properties.total_memory / 2**30, 1)
    return found


def write(out: Path, results: dict[str, Any]) -> None:
    """Write the results so far; the file is always whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1))
    part.replace(out)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = ROOT / "experiments" / "results" / "gpu-quick" / "results.json"
    add = parser.add_argument
    add("--out", type=Path, default=default, help="JSON file of the results")
    add("--seconds", type=float, default=450.0, help="start nothing more after this time")
    add("--quick", action="store_true", help="a tenth of the nodes")
    add("--smoke", action="store_true", help="the smoke test and compilation only")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
