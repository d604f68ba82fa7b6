"""Settings of a run's model and data that come from a Hugging Face folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path

from jsonargparse import Namespace

from graphformer.cli.config.parser import import_object
from graphformer.cli.errors import UsageError
from graphformer.tasks.warm_start import is_hf_folder


def fill_pretrained(model: Namespace, data: Namespace) -> None:
    """Fill in the network's `settings` and the data's `vocabulary` from `model.pretrained`.

    Applies only if `model.pretrained` is a Hugging Face folder: its weights belong to its
    vocabulary.

    Args:
        model: class path and arguments of the task; changed in place.
        data: class path and arguments of the data module; changed in place.

    Raises:
        UsageError: when the network is built from such a folder, and none is given.
    """
    path = model.init_args.get("pretrained")
    network = model.init_args.get("network")
    needs_settings = network is not None and "settings" in _parameters(network.class_path)
    if path is None or not is_hf_folder(path):
        if needs_settings and not (network.get("init_args") or {}).get("settings"):
            name = network.class_path.rpartition(".")[2]
            raise UsageError(
                f"model.pretrained: got {path!r}, expected a Hugging Face folder with config.json "
                f"and safetensors files, from which {name} is built; set --model.pretrained"
            )
        return
    folder = Path(path).expanduser().absolute()
    if needs_settings:
        if network.get("init_args") is None:
            network["init_args"] = Namespace()
        text = (folder / "config.json").read_text(encoding="utf-8")
        network.init_args["settings"] = json.loads(text)
    # The parsed arguments contain those that a class passes on by `**options`, its signature not.
    has_vocabulary = "vocabulary" in (data.get("init_args") or {})
    if has_vocabulary and (folder / "tokenizer.json").is_file():
        data.init_args["vocabulary"] = str(folder)


def _parameters(class_path: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(import_object(class_path)).parameters
