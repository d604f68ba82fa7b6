"""Sharded checkpoints, folders of torch's distributed checkpoint, as one file for one process."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from graphformer.data.io.cache import cache_lock

_EXTRA = "meta.pt"
"""Lightning's file with what is neither weights nor the state of optimisers."""
_PATHS = ("pathlib", "pathlib._local")  # the latter in Python 3.13
_ALLOWED = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *((home, f"{system}Path") for home in _PATHS for system in ("Posix", "Windows")),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex",
            "StorageMeta", "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        )
    ),
}  # fmt: skip
"""Classes and functions that the index of a checkpoint refers to, beside torch's dtypes."""


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder that `ModelParallelStrategy` wrote as a checkpoint."""
    return (path / _EXTRA).is_file() and (path / ".metadata").is_file()


def whole_checkpoint(folder: Path) -> Path:
    """Return a checkpoint file with the content of a sharded one; write it if it is absent or old.

    Raises:
        ValueError: when the folder cannot be read.
        OSError: when the file cannot be written.
    """
    target = folder.with_name(f"{folder.stem}.whole.ckpt")
    with cache_lock("whole_checkpoint"):  # several processes may ask for it
        if _is_current(target, folder):
            return target
        partial = target.with_suffix(".partial")
        try:
            torch.save(read_sharded(folder), partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def read_sharded(folder: Path) -> dict[str, Any]:
    """Return a sharded checkpoint in the form of a file of one process; no code in it is run.

    Raises:
        ValueError: when the folder is damaged or contains other objects.
    """
    content: dict[str, Any] = {}
    try:
        _load_state_dict(content, _SafeReader(folder), planner=_SafePlanner(), no_dist=True)
        extra = torch.load(folder / _EXTRA, map_location="cpu", weights_only=True)
    except CheckpointException as error:  # of torch, with the exceptions of its steps
        raise ValueError(
            _unreadable(folder, *(reason for reason, _ in error.failures.values()))
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(_unreadable(folder, error)) from None
    count = sum(key.startswith("optimizer_") for key in content)
    states = [_by_number(content.pop(f"optimizer_{number}")) for number in range(count)]
    return {**extra, **content, "optimizer_states": states}


def _unreadable(folder: Path, *reasons: BaseException) -> str:
    line = str(reasons[0] if reasons else "").strip().partition("\n")[0][:120]
    return (
        f"{folder}: got a folder that is no readable checkpoint ({line}), expected one of "
        "ModelParallelStrategy"
    )


def _is_current(file: Path, folder: Path) -> bool:
    return file.is_file() and file.stat().st_mtime >= (folder / ".metadata").stat().st_mtime


def _by_number(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an optimiser by the numbers of its parameters instead of their names."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = [
        {**group, "params": [numbers[name] for name in group["params"]]}
        for group in state["param_groups"]
    ]
    by_name = state.get("state", {})
    return {
        "state": {numbers[name]: values for name, values in by_name.items()},
        "param_groups": groups,
    }


class _SafeReader(FileSystemReader):
    """Reads the index of a checkpoint, a pickle, without calling other code than torch's own."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata = _SafeUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"its index is a {type(metadata).__name__}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        return metadata


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


class _SafePlanner(_EmptyStateDictLoadPlanner):
    """Reads what is no tensor without running code in it."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)  # refuses code; the base class does not
        value.seek(0)
        super().load_bytes(read_item, value)
