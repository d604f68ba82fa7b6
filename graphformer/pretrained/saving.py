"""`save_pretrained`: models from checkpoints as folders in the format of `transformers`."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from graphformer.models import Model
from graphformer.models.vision.clip import CLIP
from graphformer.nn import Head, Pooling
from graphformer.pretrained.checkpoint_io import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from graphformer.pretrained.config import Config, set_num_classes
from graphformer.pretrained.families import FAMILIES
from graphformer.pretrained.key_mapping import map_parameters
from graphformer.pretrained.sentence import dense_modules, sentence_files


def save_pretrained(model: Model | CLIP, path: str | os.PathLike[str]) -> None:
    """Write a model from a checkpoint as a folder in the format of `transformers`.

    A new folder appears when it is complete. In an existing folder, files are replaced one by one,
    each when it is complete.

    Args:
        model: from `from_pretrained`, trained further or not.
        path: the folder.

    Raises:
        ValueError: when the model has no config, as one that is not from a checkpoint.
    """
    if model.config is None:
        raise ValueError(
            "model: got one without a config, expected one from gf.from_pretrained; use "
            "torch.save(model.state_dict(), path) for other models"
        )
    with complete_folder(path) as folder:
        _write(model, folder)


@contextmanager
def complete_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder, which becomes the folder `path` when the body has written it.

    In an existing folder, files are replaced one by one, each when it is complete.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        yield folder
        if target.is_dir() and any(target.iterdir()):
            _replace_files(folder, target)
        else:
            folder.replace(target)


def state_for_transformers(model: Model | CLIP) -> dict[str, Tensor]:
    """Return the tensors of a model from a checkpoint by their keys in `transformers`."""
    config = Config(_own_config(model), "model.config")
    family = FAMILIES[config.require("model_type")]
    kind = family.kind(config.require("architectures")[0]) or "none"
    shapes = {} if family.stored_shapes is None else family.stored_shapes(config)
    _set_tied(config.values, model)
    tied = config.get("tie_word_embeddings", family.tie_word_embeddings)
    tensors: dict[str, Tensor] = {}
    for mapped in map_parameters(_without_pooling(model), family, kind, shapes):
        for part in mapped.slices:
            stored = part.to_stored(mapped.parameter)
            copies = () if tied or not part.copies else part.keys[1:]
            tensors |= {key: stored.clone() for key in copies} | {part.keys[0]: stored}
    if family.conversion is None:
        return tensors
    prefix = "" if kind == "none" or not family.prefix else f"{family.prefix}."
    return family.conversion.to_checkpoint(tensors, prefix)


def _without_pooling(model: Model | CLIP) -> Model | CLIP:
    """Return a model without a head that is stored in files of its own."""
    if not isinstance(getattr(model, "head", None), Pooling):
        return model
    other = copy.copy(model)
    other._modules = {name: part for name, part in model._modules.items() if name != "head"}
    return other


def _write(model: Model | CLIP, folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = state_for_transformers(model)
    save_file(tensors, folder / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    config = _own_config(model)
    _set_tied(config, model)
    _warn_of_pooling(config)
    config["dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config.pop("torch_dtype", None)  # the old name of dtype
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    files = dict(model.extra_files)
    if isinstance(model, Model) and isinstance(model.head, Pooling):
        files |= sentence_files(model, model.head, model.transformer.dim)
        for module in dense_modules(model.head):
            (folder / module.path).mkdir()
            save_file(module.tensors(), folder / module.path / SAFE_WEIGHTS_NAME)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if model.tokenizer is not None:
        model.tokenizer.save(folder / "tokenizer.json")


def _own_config(model: Model | CLIP) -> dict[str, Any]:
    """Return the config of a model, corrected where its head was replaced by a `Head` of classes.

    A head that pools becomes that of a classifier, and one that does not that of a tagger. The key
    "classifier_pooling" is that of ModernBERT in `transformers`.
    """
    config = dict(model.config or {})
    head, family = getattr(model, "head", None), FAMILIES[config["model_type"]]
    kind = family.kind(config["architectures"][0])
    is_for_tokens = kind in (None, "masked_lm", "causal_lm", "detection")
    if kind is None or type(head) is not Head or (is_for_tokens and head.pool is None):
        return config
    count = head.linear.out_features
    if head.pool is not None:
        kind = "classification"
        if head.transform is None and "head.transform" in " ".join(family.heads[kind]):
            config["classifier_pooling"] = head.pool
    elif kind in ("none", "embedding", "classification"):
        kind = "tagging"
    config["architectures"] = [family.architectures[kind]]
    labelled = kind in ("classification", "tagging")
    if labelled and len(config.get("id2label") or ()) != count:
        set_num_classes(Config(config, "model.config"), count)
    return config


def _warn_of_pooling(config: dict[str, Any]) -> None:
    pooling = config.get("classifier_pooling")
    if pooling is not None:
        warnings.warn(
            f"{config['architectures'][0]} of transformers has no pooling {pooling!r} before its "
            "linear layer, so that there the outputs differ; load the folder by "
            "gf.from_pretrained, or train the head of from_pretrained(..., head='classification')",
            stacklevel=4,
        )


def _set_tied(config: dict[str, Any], model: Model | CLIP) -> None:
    """Correct the config if the head has a weight of its own, as after merging adapters into it."""
    output = getattr(getattr(model, "head", None), "linear", None)
    tokens = getattr(getattr(model, "embedding", None), "features", None)
    family = FAMILIES[config["model_type"]]
    tied = config.get("tie_word_embeddings")
    tied = family.tie_word_embeddings if tied is None else tied
    kind = family.kind(config["architectures"][0])
    if tied and kind in ("masked_lm", "causal_lm") and output and tokens:
        config["tie_word_embeddings"] = output.weight is tokens.weight


def _replace_files(folder: Path, target: Path) -> None:
    """Move the files of a folder into an existing one, weights first; drop an old shard index."""
    for file in sorted(folder.rglob("*"), key=lambda file: file.name != SAFE_WEIGHTS_NAME):
        if file.is_file():
            destination = target / file.relative_to(folder)
            destination.parent.mkdir(exist_ok=True)
            shutil.move(file, destination)
    (target / SAFE_WEIGHTS_INDEX_NAME).unlink(missing_ok=True)
