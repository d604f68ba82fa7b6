"""Optuna studies of training runs: their storage, their queue and the state of their trials."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graphformer.cli.errors import UsageError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

HEARTBEAT = 10  # seconds between the signs of life of a trial in the storage
_GRACE = 45  # seconds without one, after which a trial is taken for that of a dead worker
_RETRIES = 2
NAME, WORKER = "name", "worker"
"""Attributes of a trial: the name of its folder; host and process of its worker."""
STARTED, REFUSED, REASON, RESULT = "started", "refused", "reason", "result"
"""Attributes of a trial: it trains; its settings are refused; why it failed; its results."""


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file."""
    return f"sqlite:///{file.resolve()}"


def open_storage(url: str, *, grace: int = _GRACE) -> RDBStorage:
    """Return a storage in which the trials of dead workers are queued again.

    Args:
        url: of SQLAlchemy, such as "sqlite:///study.db" or
            "postgresql+psycopg://user@host/database".
        grace: seconds after which a silent worker is taken for dead.

    Raises:
        UsageError: when the database cannot be opened or its driver is missing.
    """
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import SQLAlchemyError

    timeout = {"connect_args": {"timeout": 100}} if url.startswith("sqlite") else {}
    try:
        with _quiet():
            return RDBStorage(
                url,
                engine_kwargs=timeout,
                heartbeat_interval=min(HEARTBEAT, grace),
                grace_period=grace,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(_RETRIES),
            )
    except ImportError as error:
        raise UsageError(
            f"--storage: got {url!r}, whose driver is missing ({error}); pip install "
            '"graphformer[postgres]" or another driver of SQLAlchemy'
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"--storage: got {url!r}, which cannot be opened ({reason})") from error


def create_study(
    url: str,
    name: str,
    settings: Mapping[str, Any],
    *,
    direction: Literal["minimize", "maximize"] = "minimize",
) -> Study:
    """Return the study of a name, created if there is none, with these attributes."""
    import optuna

    hide_messages()
    study = optuna.create_study(
        storage=open_storage(url), study_name=name, direction=direction, load_if_exists=True
    )
    for key, value in settings.items():
        study.set_user_attr(key, value)
    return study


def num_begun(study: Study) -> int:
    """Return the number of trials, in which a trial and its repetitions count once."""
    trials = study.get_trials(deepcopy=False)
    return sum("retry_history" not in trial.system_attrs for trial in trials)


def retried(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that were queued again."""
    return {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}


def num_ended(study: Study) -> int:
    """Return the number of finished trials that were not queued again."""
    trials = study.get_trials(deepcopy=False)
    ended = {trial.number for trial in trials if trial.state.is_finished()}
    return len(ended - retried(trials))


def is_queued(trial: FrozenTrial) -> bool:
    """Whether the trial's values were given, rather than drawn by a sampler."""
    return "fixed_params" in trial.system_attrs or "retry_history" in trial.system_attrs


def has_waiting(study: Study) -> bool:
    """Whether a trial waits for a worker."""
    return bool(_in_states(study, "WAITING"))


def has_running(study: Study) -> bool:
    """Whether a worker is training a trial, or has died with it a short time ago."""
    return bool(_in_states(study, "RUNNING"))


def worker_name(pid: int | None) -> str:
    """Return what identifies a process of this host."""
    return f"{platform.node()}:{pid}"


def running_on(study: Study, pid: int | None) -> list[FrozenTrial]:
    """Return the trials that a process of this host trains, or trained when it died."""
    name = worker_name(pid)
    running = _in_states(study, "RUNNING")
    return [trial for trial in running if trial.user_attrs.get(WORKER) == name]


def release_unfinished(study: Study) -> None:
    """End the trials that wait or run: those of an interrupted command without other workers."""
    from optuna.trial import TrialState

    for trial in _in_states(study, "WAITING", "RUNNING"):
        study.tell(trial.number, state=TrialState.FAIL)


def enqueue(study: Study, points: Sequence[Mapping[str, Any]]) -> None:
    """Add trials with given values to the queue."""
    for point in points:
        study.enqueue_trial(dict(point))


def return_to_queue(study: Study, number: int) -> None:
    """End a trial that was interrupted, and queue its values again."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback
    from optuna.trial import TrialState

    with _quiet():
        trial = study.get_trials(deepcopy=False)[number]
        if not trial.state.is_finished():
            study.tell(number, state=TrialState.FAIL)
        RetryHeartbeatStaleTrialCallback(_RETRIES)(study, trial)


def _in_states(study: Study, *names: str) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState[name] for name in names])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide that the heartbeat is an experimental feature of Optuna."""
    import warnings

    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def hide_messages() -> None:
    """Hide Optuna's own lines about each trial; the command prints its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
