"""`graphformer sweep`: a search over settings by any number of workers, as an Optuna study."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graphformer.cli.config.arguments import Command, read_command
from graphformer.cli.config.command_parser import CommandParser, whole_number
from graphformer.cli.errors import UsageError
from graphformer.cli.many_runs.job import WorkerOptions
from graphformer.cli.many_runs.pool import available_cores, run_workers
from graphformer.cli.many_runs.recorded import lower_is_better
from graphformer.cli.many_runs.search import grid, parse_search, read_search
from graphformer.cli.many_runs.settings import inlined, runs_root, settings_key
from graphformer.cli.many_runs.study import (
    create_study,
    enqueue,
    hide_messages,
    num_begun,
    num_ended,
    open_storage,
    sqlite_url,
)

if TYPE_CHECKING:
    from optuna import Study

_EXCLUDED = ("--ckpt", "--folds", "--seeds")


def main(argv: Sequence[str]) -> int:
    """Create or continue a study, train its trials, and print the best; return the exit code.

    Raises:
        UsageError: when an option, a setting or the storage is wrong.
    """
    options, words = _parse(argv)
    if not words and options.search is None:
        study, root = _join(options), Path("runs")
    else:
        command = read_command(["fit", *words])
        root = runs_root(words)
        study = _create(options, command, root)
    folder = root / study.study_name
    folder.mkdir(parents=True, exist_ok=True)
    cores = available_cores()
    threads = max(1, cores // (options.jobs or cores))
    worker = WorkerOptions(_storage(options, folder), study.study_name, folder, threads)
    total = max(1, study.user_attrs["trials"] - num_ended(study))
    failures = run_workers(study, worker, total, options.jobs)
    _print_best(study, folder)
    return 1 if failures else 0


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = CommandParser(
        "sweep", "Search over settings; all options that are not listed are those of fit."
    )
    parser.allow_abbrev = False
    parser.add_argument(
        "--search",
        help="YAML, or a file: {model.lr: [1e-4, 1e-2, log], model.adjacency: [Complete, Causal]}",
    )
    parser.add_argument("--trials", type=whole_number(1), default=20, help="number, but of a grid")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), default="tpe", help="how")
    parser.add_argument(
        "--pruner", choices=("none", "median", "halving"), default="none",
        help="ends runs early by their validations",
    )  # fmt: skip
    parser.add_argument("--monitor", default="val/loss", help="the metric to optimise")
    parser.add_argument(
        "--direction", choices=("minimize", "maximize"), help="default: by the name of the metric"
    )
    parser.add_argument("--storage", help="URL of a database that all workers reach; else SQLite")
    parser.add_argument("--study", help="name of the study; default: by its settings")
    parser.add_argument("--jobs", type=whole_number(1), help="number of processes; default: cores")
    options, words = parser.parse_known_args(argv)
    for word in words:
        if word.partition("=")[0] in _EXCLUDED:
            raise UsageError(f"{word} cannot be combined with sweep: leave it out")
    return options, words


def _join(options: argparse.Namespace) -> Study:
    """Return an existing study, whose attributes contain all settings."""
    import optuna

    if options.storage is None or options.study is None:
        raise UsageError("sweep: expected -c and --search, or --storage and --study to join one")
    hide_messages()
    try:
        return optuna.load_study(study_name=options.study, storage=open_storage(options.storage))
    except KeyError:
        raise UsageError(f"--study: got {options.study!r}, which is not in the storage") from None


def _create(options: argparse.Namespace, command: Command, root: Path) -> Study:
    """Return the study of these settings, and queue the points of a grid if it is new."""
    if options.search is None:
        raise UsageError("--search: expected '{setting: [a, b]}' or a YAML file")
    search = read_search(options.search)
    parsed = parse_search(search)
    points = grid(parsed) if options.sampler == "grid" else []
    settings: dict[str, Any] = {
        "arguments": inlined(command.arguments),
        "search": search,
        "monitor": options.monitor,
        "sampler": options.sampler,
        "pruner": options.pruner,
    }
    name = options.study or f"{command.experiment or 'sweep'}-sweep-{settings_key(settings)}"
    (root / name).mkdir(parents=True, exist_ok=True)
    study = create_study(_storage(options, root / name), name, {}, direction=_direction(options))
    if study.user_attrs and json.loads(json.dumps(settings)) != {
        key: study.user_attrs.get(key) for key in settings
    }:
        raise UsageError(f"--study: got {name!r}, which has other settings; choose another name")
    if not study.user_attrs:
        for key, value in settings.items():
            study.set_user_attr(key, value)
        enqueue(study, points)
    trials = len(points) or options.trials
    study.set_user_attr("trials", max(trials, num_begun(study)) if points else trials)
    return study


def _storage(options: argparse.Namespace, folder: Path) -> str:
    return str(options.storage or sqlite_url(folder / "study.db"))


def _direction(options: argparse.Namespace) -> Literal["minimize", "maximize"]:
    if options.direction is not None:
        return "minimize" if options.direction == "minimize" else "maximize"
    return "minimize" if lower_is_better(options.monitor) else "maximize"


def _print_best(study: Study, folder: Path) -> None:
    """Print the state of the trials, and the values of the best."""
    from collections import Counter

    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state.name.lower() for trial in trials)
    print(f"{study.study_name}: {', '.join(f'{count} {state}' for state, count in states.items())}")
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        best, monitor = study.best_trial, study.user_attrs["monitor"]
        values = ", ".join(f"{name} {value}" for name, value in best.params.items())
        print(f"best {monitor} {best.value:.4f} in trial{best.number}: {values}")
    print(f"all runs: graphformer runs {folder}")
