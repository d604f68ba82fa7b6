"""What a checkpoint of Hugging Face's says of a run's model and data."""

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
    """Take the network's `settings` and the data's `vocabulary` from `model.pretrained`.

    Only for a folder of Hugging Face's: its weights mean nothing with another vocabulary.

    Raises:
        UsageError: the network is made after such a folder, and there is none.
    """
    path = model.init_args.get("pretrained")
    network = model.init_args.get("network")
    wanted = network is not None and "settings" in _parameters(network.class_path)
    if path is None or not is_hf_folder(path):
        if wanted and not (network.get("init_args") or {}).get("settings"):
            name = network.class_path.rpartition(".")[2]
            raise UsageError(
                f"--model.pretrained is {path!r}, but the network {name} is made after a folder of "
                "Hugging Face's, with config.json and safetensors: name one"
            )
        return
    folder = Path(path).expanduser().absolute()
    if wanted:
        if network.get("init_args") is None:
            network["init_args"] = Namespace()
        text = (folder / "config.json").read_text(encoding="utf-8")
        network.init_args["settings"] = json.loads(text)
    if "vocabulary" in _parameters(data.class_path) and (folder / "tokenizer.json").is_file():
        data.init_args["vocabulary"] = str(folder)


def _parameters(class_path: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(import_object(class_path)).parameters
