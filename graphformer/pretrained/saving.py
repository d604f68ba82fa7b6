"""Our models as folders that `transformers` opens."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from torch import Tensor

from graphformer.models import Model
from graphformer.models.vision.clip import CLIP
from graphformer.nn import Pooling
from graphformer.pretrained.checkpoint_io import WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import FAMILIES
from graphformer.pretrained.key_mapping import map_parameters, stored
from graphformer.pretrained.sentence import sentence_files


def save_pretrained(model: Model | CLIP, path: str | os.PathLike[str]) -> None:
    """Write a model that came from a checkpoint as a folder that `transformers` opens.

    The folder appears when it is whole; files of a folder that is there already are replaced one
    by one, each when it is whole.

    Args:
        model: from `from_pretrained`, trained further or not.
        path: the folder.

    Raises ValueError for a model that is not of a family that `transformers` knows.
    """
    if model.config is None:
        raise ValueError(
            "model has no config, so there is no family by which transformers would open it: save "
            "models that came from gf.from_pretrained, others by torch.save(model.state_dict())."
        )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as made:
        folder = Path(made) / target.name
        folder.mkdir()
        _write(model, folder)
        if target.is_dir() and any(target.iterdir()):
            _replace(folder, target)
        else:
            folder.replace(target)


def state_for_transformers(model: Model | CLIP) -> dict[str, Tensor]:
    """The tensors of a model from a checkpoint, by the names that `transformers` gives them."""
    config = Config(dict(model.config or {}), "model.config")
    family = FAMILIES[config.need("model_type")]
    kind = family.kind(config.need("architectures")[0]) or "none"
    views = {} if family.views is None else family.views(config)
    tensors = {
        part.names[0]: stored(place.parameter, part)
        for place in map_parameters(model, family, kind, views)
        for part in place.parts
    }
    if family.joins is None:
        return tensors
    _, _, parted = family.joins
    return parted(tensors, "" if kind == "none" or not family.prefix else f"{family.prefix}.")


def _write(model: Model | CLIP, folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = state_for_transformers(model)
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    config = dict(model.config or {})
    config["dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    files = dict(model.extra_files)
    head = getattr(model, "head", None)
    if isinstance(head, Pooling):
        files = {**sentence_files(head, config["hidden_size"]), **files}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if model.tokenizer is not None:
        model.tokenizer.save(folder / "tokenizer.json")


def _replace(folder: Path, target: Path) -> None:
    """Move files into a folder that is there: weights first, and none of another layout left."""
    for file in sorted(folder.rglob("*"), key=lambda file: file.name != WEIGHTS_NAME):
        if file.is_file():
            place = target / file.relative_to(folder)
            place.parent.mkdir(exist_ok=True)
            shutil.move(file, place)
    (target / WEIGHTS_INDEX_NAME).unlink(missing_ok=True)
