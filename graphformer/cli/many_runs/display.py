"""Progress of the trials of a study: one bar, and one line per finished trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from graphformer.cli.many_runs.study import NAME, REASON, RESULT, retried

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class Display:
    """Shows the trials that were added after it was made.

    Args:
        study: the study.
        total: number of trials to come.

    Attributes:
        first: number of the first trial that is shown.
        reasons: number of a trial -> why its process has died.
    """

    def __init__(self, study: Study, total: int) -> None:
        self.study, self.total = study, total
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.bar = self.progress.add_task("runs", total=total, note="")
        trials = study.get_trials(deepcopy=False)
        finished = [trial.state.is_finished() for trial in trials]
        self.first = len(finished) - finished[::-1].index(True) if any(finished) else 0
        self.shown: set[int] = set()
        self.num_ended = 0
        self.reasons: dict[int, str] = {}
        self._failures: dict[int, tuple[str, str]] = {}
        self._deferred: set[int] = set()

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.progress.stop()

    def update(self) -> None:
        """Print the trials that have finished since the last call, and the latest values."""
        trials = self.study.get_trials(deepcopy=False)[self.first :]
        queued_again = retried(trials)
        for trial in trials:
            if not trial.state.is_finished() or trial.number in self.shown:
                continue
            is_dead = trial.state.name == "FAIL" and REASON not in trial.user_attrs
            if is_dead and trial.number not in queued_again | self._deferred:
                self._deferred.add(trial.number)  # it may be queued again in a moment
                continue
            self.shown.add(trial.number)
            if NAME in trial.user_attrs:
                self._print(trial, will_repeat=trial.number in queued_again)
        notes = [_note(trial) for trial in trials if not trial.state.is_finished()]
        self.progress.update(
            self.bar, completed=self.num_ended, note=", ".join(note for note in notes if note)
        )

    @property
    def failures(self) -> dict[str, str]:
        """Name of each run that has failed and is not repeated -> reason."""
        return {
            name: reason
            for number, (name, reason) in self._failures.items()
            if number not in retried(self.study.get_trials(deepcopy=False))
        }

    def _print(self, trial: FrozenTrial, *, will_repeat: bool) -> None:
        self.num_ended += not will_repeat
        seconds = 0.0 if trial.duration is None else trial.duration.total_seconds()
        text = f"{trial.user_attrs[NAME]}: {self._outcome(trial)}"
        text += ", queued again" * will_repeat
        self.console.print(
            f"[{self.num_ended}/{self.total}] {text}, {seconds:.0f} s",
            markup=False,
            soft_wrap=True,
        )

    def _outcome(self, trial: FrozenTrial) -> str:
        metrics = trial.user_attrs.get(RESULT, {}).get("metrics")
        if metrics is not None:
            return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if trial.state.name == "PRUNED":
            return "pruned"
        reason = self.reasons.get(trial.number, "its worker has died")
        reason = str(trial.user_attrs.get(REASON, reason))
        self._failures[trial.number] = (trial.user_attrs[NAME], reason)
        return f"failed: {reason}"


def _note(trial: FrozenTrial) -> str:
    """Return the name of a running trial and its last validation."""
    if NAME not in trial.user_attrs:
        return ""
    values = trial.intermediate_values
    last = f" {values[max(values)]:.3f}" if values else ""
    return f"{trial.user_attrs[NAME]}{last}"
