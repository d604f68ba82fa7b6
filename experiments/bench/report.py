"""What a run leaves behind: JSON, a table in Markdown, and plots."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cases import Case, Target
from bench.peers import DGL, MASK, OURS, PLAIN, PYG, PYG_SCATTER, SEGMENT

COLOURS = {
    OURS: "C3",
    PYG: "C0",
    PYG_SCATTER: "C1",
    PLAIN: "C7",
    SEGMENT: "C2",
    DGL: "C4",
    MASK: "C5",
}
PLOTS = {"nodes": ("edges", "edges"), "degree": ("edges", "edges"), "length": ("length", "length")}


def machine(device: str) -> dict[str, Any]:
    """What was measured with."""
    packages = {}
    names = ["torch", "torch_geometric", "torch_scatter", "dgl", "numba", "numpy"]
    for name in names if device == "cpu" else [*names, "triton", "anemoi_models"]:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "waiting": os.environ.get("OMP_WAIT_POLICY", "as OpenMP likes").lower(),
        "device": device if device == "cpu" else _cuda_device(),
        "python": platform.python_version(),
        "packages": packages,
    }


def read(folder: Path, about: dict[str, Any]) -> dict[str, list[Case]]:
    """The suites that an earlier run of the same kind, day and machine left in the folder."""
    file = folder / "results.json"
    if not file.exists():
        return {}
    stored = json.loads(file.read_text())
    if stored["about"] != about:
        return {}
    for cases in stored["suites"].values():
        for case in cases:
            case["targets"] = [
                Target(**{key: value for key, value in entry.items() if key != "met"})
                for entry in case["targets"]
            ]
    return {suite: [Case(**case) for case in cases] for suite, cases in stored["suites"].items()}


def write(folder: Path, about: dict[str, Any], results: dict[str, list[Case]]) -> None:
    """Write results.json, README.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = {suite: [_as_json(case) for case in cases] for suite, cases in results.items()}
    text = json.dumps({"about": about, "suites": listed}, indent=1)
    (folder / "results.json").write_text(text + "\n")
    lines = ["# Benchmark", "", *_about(about), *_targets(results)]
    lines += [line for suite, cases in results.items() for line in _table(suite, cases)]
    slopes = plots(folder, results)
    lines += ["## Slopes", "", "| sweep | peer | time grows with |", "| --- | --- | --- |"]
    lines += [f"| {sweep} | {peer} | {what}^{slope:.2f} |" for sweep, peer, what, slope in slopes]
    lines += [""] + [f"![{sweep}]({sweep}.png)\n" for sweep in PLOTS if sweep in results]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n")


def target_line(target: Target) -> list[str]:
    """The cells of a row: work, target, measured, met."""
    sign = "at most" if target.below else "at least"
    measured = "not measured" if target.measured is None else f"{target.measured:.3g}{target.unit}"
    met = {True: "yes", False: "**no**", None: "-"}[target.met]
    return [target.work, f"{sign} {target.wanted:g}{target.unit}", measured, met, target.note]


def plots(folder: Path, results: dict[str, list[Case]]) -> list[tuple[str, str, str, float]]:
    """Draw log-log cost of each sweep, with fitted slopes; returns the slopes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    slopes = []
    for sweep, (key, label) in PLOTS.items():
        cases = results.get(sweep)
        if not cases:
            continue
        figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
        for peer in COLOURS:
            points = [
                (c.work[key], *(c.peers[peer]["both"][name] for name in ("median", "q1", "q3")))
                for c in cases
                if peer in c.peers
            ]
            if len(points) < 2:
                continue
            x, y, low, high = np.array(points).T
            slope = float(np.polyfit(np.log(x), np.log(y), 1)[0])
            slopes.append((sweep, peer, label, slope))
            width = 2.2 if peer == OURS else 1.2
            text = f"{peer} (slope {slope:.2f})"
            axes.plot(x, 1e3 * y, "o-", ms=4, lw=width, color=COLOURS[peer], label=text)
            axes.fill_between(x, 1e3 * low, 1e3 * high, color=COLOURS[peer], alpha=0.2, lw=0)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="forward + backward, ms")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
        figure.savefig(folder / f"{sweep}.png", dpi=140)
        plt.close(figure)
    return slopes


def _about(about: dict[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [
        f"{about['date']}, {about['processor']}, {about['threads']} threads "
        f"(waiting: {about['waiting']}), {about['device']}, "
        f"Python {about['python']}; {packages}. float32 unless a row says otherwise. Times are "
        "medians (quartiles) of interleaved rounds; ratios are within a round, relative to the row "
        "with ratio 1. Outputs and gradients of all peers are compared before the measurement.",
        "",
        "On a plain `edge_index` and a CPU, PyG runs the same code with torch-scatter as without; "
        '"PyG + torch-scatter" therefore uses a sorted `EdgeIndex`, for which PyG calls '
        "torch-scatter's kernels (calls counted in results.json).",
        "",
    ]
    if about["absent"]:
        lines += [f"- absent: **{peer}**: {why}" for peer, why in about["absent"].items()] + [""]
    return lines


def _targets(results: dict[str, list[Case]]) -> list[str]:
    targets = [t for cases in results.values() for case in cases for t in case.targets]
    lines = ["## Targets", "", "| work | target | measured | met | note |", "| - | - | - | - | - |"]
    return [*lines, *("| " + " | ".join(target_line(t)) + " |" for t in targets), ""]


def _table(suite: str, cases: list[Case]) -> list[str]:
    lines = [f"## {suite}", ""]
    if any("both" in entry for case in cases for entry in case.peers.values()):
        lines += ["| work | peer | forward, ms | forward + backward, ms | ratio |"]
        lines += ["| - | - | - | - | - |"]
    elif cases[0].peers:
        lines += [
            "| work | peer | over inputs and outputs, MiB | grown, MiB |",
            "| - | - | - | - |",
        ]
    for case in cases:
        for peer, entry in case.peers.items():
            if "memory" in entry:
                cells = [f"{entry['memory'][key] / 2**20:.1f}" for key in ("over", "grown")]
            else:
                cells = [_spread(entry[key], 1e3) for key in ("forward", "both")]
                cells.append(_spread(entry["both ratio"], 1))
            lines.append(f"| {case.name} | {peer} | {' | '.join(cells)} |")
    lines.append("")
    for case in cases:
        lines += [f"- {case.name}: {peer}: {why}" for peer, why in case.refused.items()]
        lines += [f"- {case.name}: {key}: {_fact(value)}" for key, value in case.facts.items()]
    return [*lines, ""]


def _spread(values: dict[str, float], unit: float) -> str:
    median, low, high = (unit * values[name] for name in ("median", "q1", "q3"))
    return f"{median:.3g} ({low:.3g} - {high:.3g})"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(part)}" for key, part in value.items())
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def _as_json(case: Case) -> dict[str, Any]:
    listed = asdict(case)
    for entry, target in zip(listed["targets"], case.targets, strict=True):
        entry["met"] = target.met
    return listed


def _cuda_device() -> str:
    """Name, compute capability, driver and CUDA version."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        found = "unknown"
    major, minor = torch.cuda.get_device_capability()
    driver = found.strip().split("\n")[0]
    name = torch.cuda.get_device_name()
    return f"{name} (sm_{major}{minor}), driver {driver}, CUDA {torch.version.cuda}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
