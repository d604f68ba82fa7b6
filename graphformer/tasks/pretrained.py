"""Weights of another run to start from."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn


def load_pretrained(network: nn.Module, run: str | os.PathLike[str]) -> list[str]:
    """Load the weights of a checkpoint's network, but for heads that do not fit.

    Args:
        network: whose weights are replaced.
        run: a checkpoint, or the folder of a run, of which the best is taken, or else the last.

    Returns:
        The names of the network's tensors that keep the values they had: its head's.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: naming all tensors, other than the heads', that lack, are too many, or have
            another shape.
    """
    path = _find(Path(run).expanduser())
    stored = _network_weights(path)
    own = network.state_dict()
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


def _is_head(name: str) -> bool:
    return name.split(".")[0] == "head"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "[]"
