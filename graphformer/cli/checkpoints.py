"""Settings, weights and tokenizer in a checkpoint, and the changes that a resumed run accepts."""

from __future__ import annotations

import argparse
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml

from graphformer.cli.config.arguments import find_checkpoint
from graphformer.cli.config.imports import check_imports
from graphformer.cli.config.messages import describe_error
from graphformer.cli.config.parser import Parser
from graphformer.cli.config.renamed import report_renamed
from graphformer.cli.config.yaml_limits import check_yaml
from graphformer.cli.errors import UsageError
from graphformer.cli.run_dir import atomic_file, save_tensors
from graphformer.data import Tokenizer
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.tokenizer_training import restore_tokenizer
from graphformer.pretrained import from_pretrained
from graphformer.tasks import Task
from graphformer.tasks.classification import TEMPERATURE_KEY
from graphformer.tasks.stored_settings import CONFIG_KEY, NOT_STORED
from graphformer.tasks.text.few_shot import TextModel
from graphformer.tasks.warm_start import is_hf_folder

_OF_MODEL = ("seed_everything", "model", "data")
# Settings of data modules that stored runs of earlier releases lack, with what they did.
_OF_EARLIER_RELEASES: dict[str, dict[str, Any]] = {"ImageFolder": {"stratify": False}}
# Settings that a resumed run may change; all others of model and data are part of its state.
_CHANGEABLE_MODEL = ("model.adjacency",)
_LEARNING_RATE = ("model.lr", "model.schedule", "model.warmup_steps", "model.min_lr_ratio")
_NUM_PROCESSES = ("trainer.devices", "trainer.num_nodes")
_CHANGEABLE_DATA = ("root", "path", "num_workers", "base_url")


def stored_config(path: Path, *, whole: bool) -> str:
    """Return the settings in a checkpoint as YAML.

    Args:
        path: the checkpoint.
        whole: all settings, rather than those of model, data and seed.

    Raises:
        UsageError: when the file is not a checkpoint that `graphformer fit` wrote.
    """
    checkpoint = _load(path, mmap=True)  # the weights are not read
    if CONFIG_KEY not in checkpoint:
        raise UsageError(f"{path} contains no settings: no task of graphformer wrote it")
    text = str(checkpoint[CONFIG_KEY])
    config = _read_settings(text, path)
    kept = config if whole else {key: config[key] for key in _OF_MODEL}
    return str(yaml.safe_dump(kept, sort_keys=False))


def _read_settings(text: str, path: Path) -> dict[str, Any]:
    """Return the settings of a checkpoint after checks, because it may come from anywhere."""
    check_yaml(text, str(path))
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:  # a tag that would make an object
        line = str(error).partition("\n")[0]
        raise UsageError(f"{path}: got settings that are not plain YAML: {line}") from error
    if not isinstance(config, dict) or not config.keys() >= {*_OF_MODEL}:
        raise UsageError(f"{path}: got settings without {' or '.join(_OF_MODEL)}")
    not_stored = config.pop("not_stored", None) or []
    if not_stored:
        raise UsageError(f"{path}: {not_stored[0]}: {NOT_STORED}")
    check_imports(config, path)
    data = config["data"] if isinstance(config["data"], dict) else {}
    defaults = _OF_EARLIER_RELEASES.get(str(data.get("class_path")).rpartition(".")[2], {})
    if defaults and isinstance(data.get("init_args"), dict):
        data["init_args"] = {**defaults, **data["init_args"]}
    return config


def check_resumable(
    stored: dict[str, Any], requested: dict[str, Any], path: Path, *, reset_lr: bool = False
) -> None:
    """Refuse settings that differ from the checkpoint's and would have no effect.

    Args:
        stored: the checkpoint's settings, flat: "model.init_args.lr" and so on.
        requested: the settings of the resumed run, flat.
        path: the checkpoint.
        reset_lr: whether the learning rate and its schedule may change.

    Raises:
        UsageError: when a setting differs that cannot change; the message names all of them.
    """
    also_changeable: tuple[str, ...] = _LEARNING_RATE if reset_lr else ()
    if any(stored.get(key) != requested.get(key) for key in _NUM_PROCESSES):
        also_changeable += ("data.batch_size",)  # of each process
    changed = [
        f"{_short(key)} is {stored.get(key)!r} in the checkpoint, not {requested.get(key)!r}"
        for key in sorted({*stored, *requested})
        if stored.get(key) != requested.get(key)
        and not (_is_changeable(_short(key)) or _short(key) in also_changeable)
    ]
    if changed:
        hint = "" if reset_lr else ", pass --reset lr for another learning rate or schedule"
        raise UsageError(
            f"a run resumed from {path} cannot change its settings: {'; '.join(changed)}. "
            f"Drop the flags{hint}, or start a new run without --ckpt"
        )


def _is_changeable(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "data":
        return name in _CHANGEABLE_DATA
    return section not in ("model", "seed_everything") or key.startswith(_CHANGEABLE_MODEL)


def _short(key: str) -> str:
    return key.replace(".init_args", "").replace(".class_path", "")


def restore_task(path: Path) -> Task:
    """Return the task of a checkpoint with its weights, in evaluation mode.

    Raises:
        UsageError: when the file is not a checkpoint that `graphformer fit` wrote.
    """
    settings = yaml.safe_load(stored_config(path, whole=False))["model"]
    parser = Parser()
    parser.add_subclass_arguments(Task, "model")
    try:
        parsed = parser.parse_object({"model": settings})
    except argparse.ArgumentError as error:
        raise UsageError(describe_error(str(error), [])) from error
    report_renamed()
    task: Task = parser.instantiate_classes(parsed).model
    task.configure_model()
    checkpoint = _load(path)
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: got weights of another network: {line}") from error
    task.on_load_checkpoint(checkpoint)
    return task.eval()


def store_temperature(path: Path, temperature: float) -> None:
    """Store the temperature of a classification in its checkpoint, which is replaced atomically."""
    checkpoint = _load(path)
    checkpoint[TEMPERATURE_KEY] = temperature
    with atomic_file(path) as file:
        save_tensors(checkpoint, file)


def restore_text_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of the data that a checkpoint was trained on.

    Raises:
        UsageError: when the checkpoint has no tokenizer.
    """
    for state in _load(path).values():
        if isinstance(state, dict) and isinstance(state.get("tokenizer"), dict):
            return restore_tokenizer(state["tokenizer"])
    raise UsageError(f"{path} contains no tokenizer: it was not trained on text")


def load_text_model(name: str, command: str) -> TextModel:
    """Return the model of a Hugging Face folder, a GGUF file, a checkpoint or a run.

    Args:
        name: of the folder or file.
        command: that asks for it, for messages.

    Raises:
        UsageError: when there is none, or it has no tokenizer.
    """
    if not (is_hf_folder(name) or name.lower().endswith(".gguf")):
        ckpt = find_checkpoint(name, command)
        task, tokenizer = restore_task(ckpt), restore_text_tokenizer(ckpt)
        return TextModel(task.network, task.adjacency, tokenizer)
    model = from_pretrained(name)
    if model.tokenizer is None:
        raise UsageError(f"{command}: {name} has no tokenizer")
    assert model.adjacency is not None  # every family has one
    return TextModel(model, model.adjacency, model.tokenizer)


def chat_encoder(tokenizer: Tokenizer) -> ChatEncoder:
    """Return a tokenizer with its chat template.

    Raises:
        UsageError: when it has none.
    """
    if tokenizer.chat_template is None:
        raise UsageError("--chat: got a model without a chat template; leave --chat out")
    return ChatEncoder.of_tokenizer(tokenizer)


def _load(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        line = str(error).partition("\n")[0][:100]
        raise UsageError(f"{path} is not a readable checkpoint: {line}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        kind = type(checkpoint).__name__
        raise UsageError(f"{path} is not a readable checkpoint: got a {kind} without state_dict")
    return checkpoint
