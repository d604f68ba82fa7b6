"""Initial weights from a checkpoint, a run or a Hugging Face folder."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer import pretrained
from graphformer.distributed.checkpoint import is_sharded, whole_checkpoint
from graphformer.nn import Positions
from graphformer.nn.patches import GridPositions, resize_table

SUBNETWORKS = ("encoder.", "image.", "text.")
"""Prefixes of the networks inside a network, such as the encoder of an autoencoder."""
_NAMED = 4
"""Number of tensors that a message names."""


def load_pretrained(
    network: nn.Module, run: str | os.PathLike[str], *, argument: str = "pretrained"
) -> list[str]:
    """Load the weights of another network, except for a head that does not fit.

    If the network is a part of the stored one, such as its `encoder`, it gets the weights of that
    part. Learned positions on a grid of another shape are interpolated, and so are those of a
    sequence if the network has more of them; if it has fewer, the first ones are taken.

    Args:
        network: its weights are replaced.
        run: a checkpoint; the folder of a run, whose best checkpoint is read, or else the last; or
            a Hugging Face folder.
        argument: name of the argument that `run` comes from, for messages.

    Returns:
        Names of the network's tensors that keep their values: those of its head.

    Raises:
        FileNotFoundError: when there is no such checkpoint.
        ValueError: when tensors outside of heads are missing, superfluous or of another shape; the
            message names the first of them.
    """
    own = network.state_dict()
    if is_hf_folder(run):
        stored = _hf_weights(Path(run).expanduser(), network)
    else:
        path = _find_checkpoint(Path(run).expanduser(), argument)
        stored = _checkpoint_weights(path, argument)
    stored = _resize_positions(_select_subnetwork(stored, own), network)
    problems = _describe_mismatch(own, stored)
    if problems:
        raise ValueError(
            f"{argument}: got {os.fspath(run)!r}, expected the weights of this network; build it "
            f"with the sizes and parts of that one: {'; '.join(problems)}"
        )
    fitting = {n: w for n, w in stored.items() if n in own and own[n].shape == w.shape}
    network.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def is_hf_folder(run: str | os.PathLike[str]) -> bool:
    """Whether a path is a Hugging Face folder, rather than a run or a checkpoint."""
    path = Path(run).expanduser()
    return (path / "config.json").is_file() and not (path / "checkpoints").is_dir()


def _describe_mismatch(own: dict[str, Tensor], stored: dict[str, Tensor]) -> list[str]:
    """Return one text per kind of mismatch outside of heads, with the names of a few tensors."""
    reshaped = {
        name: f"{name} ({_shape(stored[name])} in checkpoint, {_shape(own[name])} in network)"
        for name in own.keys() & stored.keys()
        if own[name].shape != stored[name].shape
    }
    kinds: dict[str, dict[str, Any]] = {
        "missing in checkpoint:": dict.fromkeys(own.keys() - stored.keys()),
        "missing in network:": dict.fromkeys(stored.keys() - own.keys()),
        "of another shape:": reshaped,
    }
    problems = []
    for kind, texts in kinds.items():
        names = [text or name for name, text in sorted(texts.items()) if not _is_head(name)]
        if names:
            others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
            problems.append(f"{kind} {', '.join(names[:_NAMED])}{others}")
    return problems


def _hf_weights(folder: Path, network: Any) -> dict[str, Tensor]:
    """Return the stored weights of a Hugging Face folder, with the head that the network has."""
    settings = getattr(network, "config", None) or {}
    kind: Any = pretrained.head_kind(settings) or "none"
    classes = settings.get("id2label")
    model = pretrained.from_pretrained(
        folder, head=kind, num_classes=None if classes is None else len(classes)
    )
    weights = model.state_dict()
    excluded = {*model.newly_initialized, *(n for n in weights if n.startswith("pooler."))}
    return {name: weight for name, weight in weights.items() if name not in excluded}


def _find_checkpoint(path: Path, argument: str) -> Path:
    candidates = (path, path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
        if is_sharded(candidate):
            return whole_checkpoint(candidate)
    raise FileNotFoundError(
        f"{argument}: got {os.fspath(path)!r}, expected a checkpoint, the folder of a run, or a "
        "Hugging Face folder"
    )


def _checkpoint_weights(path: Path, argument: str) -> dict[str, Tensor]:
    """Return the weights of the network in a checkpoint of a task."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError):
        raise ValueError(f"{argument}: got {path}, expected a readable checkpoint") from None
    weights = checkpoint.get("state_dict", {})
    own = {n.removeprefix("network."): w for n, w in weights.items() if n.startswith("network.")}
    if not own:
        raise ValueError(f"{argument}: got {path}, expected a checkpoint with network weights")
    return own


def _select_subnetwork(stored: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the subnetwork that has all tensors of the network, or all weights."""
    body = {name for name in own if not _is_head(name)}
    for prefix in SUBNETWORKS:
        inner = {n.removeprefix(prefix): w for n, w in stored.items() if n.startswith(prefix)}
        if body and not body <= stored.keys() and body <= inner.keys():
            return inner
    return stored


def _resize_positions(stored: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the weights with learned positions adapted to the network's lengths and grids."""
    resized = dict(stored)
    for name, module in network.named_modules():
        table = stored.get(f"{name}.table")
        if isinstance(module, GridPositions) and table is not None:
            rows, columns, _ = module.table.shape
            resized[f"{name}.table"] = resize_table(table, (rows, columns))
        if isinstance(module, Positions) and module.tables is not None:
            for number in range(module.axes):
                key = f"{name}.tables.{number}.weight"
                if key in stored:
                    rows = module.max_length + module.offset
                    resized[key] = _resize_rows(stored[key], rows, module.offset)
    return resized


def _resize_rows(table: Tensor, rows: int, offset: int) -> Tensor:
    """Return learned positions [n, C] cut or linearly interpolated to [rows, C].

    The first `offset` rows, before that of position 0, are kept.
    """
    if rows <= len(table):
        return table[:rows]
    positions = table[offset:].T.unsqueeze(0)
    longer = F.interpolate(positions, size=rows - offset, mode="linear", align_corners=True)
    return torch.cat([table[:offset], longer[0].T])


def _is_head(name: str) -> bool:
    return name.split(".")[0] == "head"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "[]"
