"""Benchmark attention against other libraries: `python experiments/benchmark.py --suite NAME ...`.

Each figure is a ratio within one run. bench/suites.py has the suites for a CPU, bench/cuda.py those
for a CUDA device. Peers that are not dependencies (torch-scatter, dgl==1.1.3, anemoi-models) are
measured if they are installed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))
# Threads that wait by spinning lose whole time slices to other processes: on a busy machine torch's
# small operations took 20 times as long, those of peers more than ours.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from bench import cases, cuda, peers, report, suites
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

DEFAULT = Path(__file__).parent / "results" / "benchmark"


def main(argv: list[str] | None = None) -> int:
    """Run the suites and write their results; return 1 if a target was missed, else 0.

    Results of other suites from the same day and machine stay in the folder. Each suite runs in its
    own process: memory that one suite left allocated made a peer twice as fast in the next.
    """
    options = parse(argv)
    if len(options.suite) > 1:
        statuses = [one_suite(options, suite) for suite in options.suite]
        return int(any(statuses))
    (suite,) = options.suite
    warnings.filterwarnings("ignore", module="torch_geometric|dgl|torch_scatter")
    console = Console(stderr=True)
    about = report.machine(options.device)
    about["date"] = datetime.date.today().isoformat()
    about["quick"] = options.quick
    about["absent"] = peers.absent(options.device)
    if peers.HAS_SCATTER:
        about["calls of torch-scatter"] = suites.check_scatter_calls()
    for peer, why in about["absent"].items():
        console.print(f"absent: [bold]{peer}[/]: {why}")
    chosen = cases.Options(quick=options.quick, device=options.device)
    results = report.read(options.out, about)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(suite)
        results[suite] = []
        for case in suites_of(options.device).SUITES[suite](chosen):
            case.facts["load average"] = os.getloadavg()[0]
            results[suite].append(case)
            print_case(console, suite, case)
            progress.update(task, description=f"{suite}: after {case.name}")
            report.write(options.out, about, results)  # after each case, in case of an interruption
    console.print(f"written to {options.out}")
    targets = [target for case in results[suite] for target in case.targets]
    return int(any(target.met is False for target in targets))


def one_suite(options: argparse.Namespace, suite: str) -> int:
    """Run one suite in a new process and return its exit status."""
    command = [sys.executable, __file__, "--suite", suite, "--out", str(options.out)]
    command += ["--device", options.device]
    command += ["--quick"] if options.quick else []
    command += ["--threads", str(options.threads)] if options.threads else []
    return subprocess.run(command, check=False).returncode


def suites_of(device: str) -> ModuleType:
    """Return the module with the suites for a device."""
    return suites if device == "cpu" else cuda


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["targets", "sweeps", *(suites.SUITES | cuda.SUITES)]
    listed = f"any of {', '.join(names)}; all by default"
    everything = ["targets", "sweeps"]
    parser.add_argument(
        "--suite", nargs="+", choices=names, default=everything, metavar="NAME", help=listed
    )
    parser.add_argument("--out", type=Path, default=None, help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: 3 minutes")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=int, default=None, help="number of threads that torch uses"
    )
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "benchmark.py: --device cuda needs a CUDA device and a torch built for it\n")
    module = suites_of(options.device)
    groups = {"targets": list(module.TARGETS), "sweeps": list(module.SWEEPS)}
    options.suite = list(
        dict.fromkeys(suite for name in options.suite for suite in groups.get(name, [name]))
    )
    for suite in options.suite:
        if suite not in module.SUITES:
            listed = ", ".join(module.SUITES)
            parser.error(f"no suite {suite} for --device {options.device}: choose from {listed}")
    if options.out is None:
        device = "-gpu" if options.device == "cuda" else ""
        options.out = DEFAULT.with_name(f"benchmark{device}{'-quick' if options.quick else ''}")
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def print_case(console: Console, suite: str, case: cases.Case) -> None:
    """Print the ratios of a case and its targets."""
    ratios = {
        peer: f"{entry['both ratio']['median']:.2f}"
        for peer, entry in case.peers.items()
        if "both ratio" in entry
    }
    console.print(
        f"[bold]{suite}[/] {case.name}: " + ", ".join(f"{p} {r}" for p, r in ratios.items())
    )
    for target in case.targets:
        _, goal, measured, _, note = report.target_line(target)
        style = {True: "green", False: "red", None: "yellow"}[target.met]
        console.print(f"  [{style}]{target.work}: {measured} ({goal}) {note}[/]")
    for peer, why in case.refused.items():
        console.print(f"  [yellow]{peer}: {why}[/]")


if __name__ == "__main__":
    sys.exit(main())
