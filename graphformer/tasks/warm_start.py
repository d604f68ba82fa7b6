"""Weights of another run to start from."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from graphformer import pretrained
from graphformer.nn.patches import GridPositions, resize_table

PARTS = ("encoder.", "image.", "text.")
"""How networks call the parts of theirs that are networks of their own."""


def load_pretrained(network: nn.Module, run: str | os.PathLike[str]) -> list[str]:
    """Load the weights of a checkpoint's network, but for heads that do not fit.

    A network that is a part of the checkpoint's, such as its `encoder`, gets the weights of that
    part. Positions learned on a grid of another shape are interpolated.

    Args:
        network: whose weights are replaced.
        run: a checkpoint, or the folder of a run, of which the best is taken, or else the last; or
            a folder of Hugging Face's.

    Returns:
        The names of the network's tensors that keep the values they had: its head's.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: naming all tensors, other than the heads', that lack, are too many, or have
            another shape.
    """
    own = network.state_dict()
    if is_hf_folder(run):
        stored = _public_weights(Path(run).expanduser(), network)
    else:
        stored = _network_weights(_find(Path(run).expanduser()))
    stored = _resized(_inner(stored, own), network)
    fits = {n: w for n, w in stored.items() if n in own and own[n].shape == w.shape}
    shapes = {
        name: f"{name} ({_shape(stored[name])} there, {_shape(own[name])} here)"
        for name in stored.keys() & own.keys() - fits.keys()
    }
    missing, surplus = own.keys() - stored.keys(), stored.keys() - own.keys()
    problems = [
        f"{what} {', '.join(sorted(names))}"
        for what, names in {
            "missing there:": [n for n in missing if not _is_head(n)],
            "missing here:": [n for n in surplus if not _is_head(n)],
            "of another shape:": [text for n, text in shapes.items() if not _is_head(n)],
        }.items()
        if names
    ]
    if problems:
        raise ValueError(
            f"pretrained is {os.fspath(run)!r}, whose weights are not those of this network: "
            f"{'; '.join(problems)}. Give this network the sizes and parts of that one."
        )
    network.load_state_dict(fits, strict=False)
    return sorted(own.keys() - fits.keys())


def is_hf_folder(run: str | os.PathLike[str]) -> bool:
    """Whether this is a folder of Hugging Face's, rather than a run or a checkpoint of ours."""
    path = Path(run).expanduser()
    return (path / "config.json").is_file() and not (path / "checkpoints").is_dir()


def _public_weights(folder: Path, network: Any) -> dict[str, Tensor]:
    """The weights of a folder with the head that the network has, but for those it lacks."""
    settings = getattr(network, "config", None) or {}
    kind: Any = pretrained.head_kind(settings) or "none"
    classes = settings.get("id2label")
    model = pretrained.from_pretrained(
        folder, head=kind, num_classes=None if classes is None else len(classes)
    )
    drawn = (*model.newly_initialized, *(n for n in model.state_dict() if n.startswith("pooler.")))
    return {name: weight for name, weight in model.state_dict().items() if name not in drawn}


def _find(path: Path) -> Path:
    places = [path, *(path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"pretrained is {os.fspath(path)!r}, which is neither a checkpoint nor the folder of a run."
    )


def _network_weights(path: Path) -> dict[str, Tensor]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError):
        raise ValueError(f"pretrained is {path}, which is no readable checkpoint.") from None
    weights = checkpoint.get("state_dict", {})
    found = {n.removeprefix("network."): w for n, w in weights.items() if n.startswith("network.")}
    if not found:
        raise ValueError(f"pretrained is {path}, which holds no weights of a network.")
    return found


def _inner(stored: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the part that the network is, if not the whole."""
    body = {name for name in own if not _is_head(name)}
    for part in PARTS:
        inner = {n.removeprefix(part): w for n, w in stored.items() if n.startswith(part)}
        if body and not body <= stored.keys() and body <= inner.keys():
            return inner
    return stored


def _resized(stored: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights with positions for the network's own grids."""
    resized = dict(stored)
    for name, module in network.named_modules():
        table = stored.get(f"{name}.table")
        if isinstance(module, GridPositions) and table is not None:
            rows, columns, _ = module.table.shape
            resized[f"{name}.table"] = resize_table(table, (rows, columns))
    return resized


def _is_head(name: str) -> bool:
    return name.split(".")[0] == "head"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "[]"
