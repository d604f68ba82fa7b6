"""`load`: a trained model from the folder of a run, a checkpoint or a Hugging Face folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch import nn

from graphformer import tasks
from graphformer.cli.checkpoints import restore_task
from graphformer.cli.config.arguments import find_checkpoint
from graphformer.cli.config.imports import trusted
from graphformer.cli.errors import UsageError
from graphformer.cli.prediction_files import class_names
from graphformer.cli.run_data import restore_unread_data
from graphformer.data import Tokenizer
from graphformer.data.base import DataModule
from graphformer.pretrained import from_pretrained
from graphformer.pretrained.hub import OWN_FILES, download, is_hub_name
from graphformer.tasks import Task
from graphformer.tasks.stored_settings import CONFIG_KEY
from graphformer.tasks.warm_start import is_hf_folder
from graphformer.trained.model import TrainedModel


def load(
    run: str | os.PathLike[str],
    *,
    network: nn.Module | None = None,
    data: DataModule | None = None,
    trust: Sequence[str] = (),
    revision: str | None = None,
) -> TrainedModel:
    """Return the trained model of a run, in evaluation mode and on the CPU.

    Args:
        run: the folder of a run, whose best checkpoint is read, or else the last; a checkpoint,
            also one of a task made in Python; a folder of `TrainedModel.save`; a Hugging Face
            folder; or "organisation/name" of the Hub with one of these two.
        network: for a checkpoint whose network was made by own code, a network of that form.
        data: a data module that prepares inputs; by default that of the checkpoint.
        trust: modules, beside graphformer's, that the settings of the checkpoint may import.
        revision: of a name of the Hub: a branch, tag or commit.

    Raises:
        FileNotFoundError: when a name of the Hub cannot be downloaded.
        ValueError: when there is no checkpoint, or it has no task, another network, or settings
            that import other modules.
    """
    name = os.fspath(run)
    # Another name below a folder, such as runs/, is a misspelt path.
    if is_hub_name(name) and not Path(name).parent.is_dir():
        name = str(download(name, revision, further_files=OWN_FILES))
    elif revision is not None:
        raise ValueError(
            f"revision: got one for {name!r}, expected a name of the Hub; leave it out"
        )
    if is_hf_folder(name):
        model = from_pretrained(name)
        assert model.adjacency is not None  # every family has one
        return TrainedModel(model, model.adjacency, tokenizer=model.tokenizer)
    try:
        with trusted(trust):
            path = find_checkpoint(name, "predict")
            task = restore_task(path) if network is None else _with_network(path, network)
            data = _data(path) if data is None else data
    except UsageError as error:
        raise ValueError(f"run: {error}") from error
    tokenizer, classes = getattr(data, "tokenizer", None), class_names(data)
    assert tokenizer is None or isinstance(tokenizer, Tokenizer)
    return TrainedModel(task.network, task.adjacency, task, tokenizer, classes, data, path)


def _with_network(path: Path, network: nn.Module) -> Task:
    """Return a task with the weights of a checkpoint, for a network that it does not describe."""
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    settings = yaml.safe_load(stored.get(CONFIG_KEY, "")) or {}
    name = str((settings.get("model") or {}).get("class_path")).rpartition(".")[2]
    task_class = getattr(tasks, name, None) if name in tasks.__all__ else None
    if task_class is None:
        raise UsageError(
            f"{path}: got the task {name}, expected one of graphformer.tasks; use the "
            "load_from_checkpoint of its class"
        )
    task: Task = task_class.load_from_checkpoint(path, map_location="cpu", network=network)
    return task.eval()


def _data(path: Path) -> DataModule | None:
    """Return the data module of a checkpoint, or None if the checkpoint does not describe it."""
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if (yaml.safe_load(stored.get(CONFIG_KEY, "")) or {}).get("data") is None:
        return None
    module = restore_unread_data(path)
    return module if isinstance(module, DataModule) else None
