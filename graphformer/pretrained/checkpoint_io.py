"""Tensors by name: in the safetensors files of a folder, or in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
WEIGHTS_NAME, WEIGHTS_INDEX_NAME = "model.safetensors", "model.safetensors.index.json"
UNSAFE_WEIGHTS_NAMES = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
)


class TensorInfo(NamedTuple):
    """Where a tensor lies."""

    file: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class TensorReader(Protocol):
    """Tensors by name, which are read one by one."""

    def names(self) -> list[str]:
        """What there is."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""

    def dtype(self, name: str) -> torch.dtype:
        """The type of its numbers."""

    def read(self, name: str, out: Tensor) -> None:
        """Copy it to `out`, of the same shape and of whatever type."""


class SafetensorsFolder:
    """The tensors of a folder, read straight to where they go: nothing is held twice.

    Args:
        folder: has model.safetensors, or its shards and their index.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what it should be, or only pickled weights are there.
    """

    def __init__(self, folder: Path) -> None:
        self.entries: dict[str, TensorInfo] = {}
        for file in _files(folder):
            entries = _header(file)
            twice = self.entries.keys() & entries.keys()
            if twice:
                raise ValueError(f"{file} holds {', '.join(sorted(twice))}, as another shard does.")
            self.entries |= entries
        if (folder / WEIGHTS_INDEX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file():
            _check_index(folder / WEIGHTS_INDEX_NAME, self.entries)

    def names(self) -> list[str]:
        """What there is."""
        return list(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The type of its numbers."""
        return self.entries[name].dtype

    def read(self, name: str, out: Tensor) -> None:
        """Copy it to `out`, of the same shape and of whatever type."""
        entry = self.entries[name]
        direct = out.dtype == entry.dtype and out.is_contiguous() and out.device.type == "cpu"
        target = out if direct else torch.empty(entry.shape, dtype=entry.dtype)
        if target.numel():
            with open(entry.file, "rb", buffering=0) as file:
                file.seek(entry.offset)
                raw: Any = target.detach().view(-1).view(torch.uint8).numpy()
                _fill(file, memoryview(raw))
        if not direct:
            out.copy_(target)


class InMemoryTensors:
    """The tensors of a model in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    def names(self) -> list[str]:
        """What there is."""
        return list(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """The type of its numbers."""
        return self.tensors[name].dtype

    def read(self, name: str, out: Tensor) -> None:
        """Copy it to `out`, of the same shape and of whatever type."""
        out.copy_(self.tensors[name])


class OverlaidTensors:
    """Tensors of which some are replaced by what was made of them.

    Args:
        tensors: the others.
        made: those in place of them, by names of their own.
    """

    def __init__(self, tensors: TensorReader, made: Mapping[str, Tensor]) -> None:
        self.tensors, self.made = tensors, InMemoryTensors(made)

    def names(self) -> list[str]:
        """What there is."""
        return [*self.tensors.names(), *self.made.names()]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._home(name).shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """The type of its numbers."""
        return self._home(name).dtype(name)

    def read(self, name: str, out: Tensor) -> None:
        """Copy it to `out`, of the same shape and of whatever type."""
        self._home(name).read(name, out)

    def _home(self, name: str) -> TensorReader:
        return self.made if name in self.made.tensors else self.tensors


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises ValueError for a file that is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no readable JSON: {error}.") from None


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_NAME).is_file():
        return [folder / WEIGHTS_NAME]
    if (folder / WEIGHTS_INDEX_NAME).is_file():
        shards = sorted(set(_weight_map(folder / WEIGHTS_INDEX_NAME).values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks {', '.join(missing)}, of the {len(shards)} shards that "
                f"{WEIGHTS_INDEX_NAME} names: download them again."
            )
        return [folder / shard for shard in shards]
    pickled = [name for name in UNSAFE_WEIGHTS_NAMES if (folder / name).is_file()]
    if pickled:
        raise ValueError(
            f"{folder} has weights as {pickled[0]} only, which is not opened, for a pickle runs "
            f"code: convert them by transformers.AutoModel.from_pretrained({str(folder)!r})"
            ".save_pretrained(NEW_FOLDER), which writes safetensors."
        )
    raise FileNotFoundError(f"{folder} has neither {WEIGHTS_NAME} nor {WEIGHTS_INDEX_NAME}.")


def _weight_map(index: Path) -> dict[str, str]:
    names = read_json(index)
    names = names.get("weight_map") if isinstance(names, dict) else None
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} has no 'weight_map' that names the shards.")
    outside = [shard for shard in names.values() if Path(str(shard)).name != shard]
    if outside:
        raise ValueError(f"{index} names {outside[0]!r}, which is no file beside it.")
    return names


def _check_index(index: Path, entries: dict[str, TensorInfo]) -> None:
    """The index and the shards must name the same tensors."""
    named = _weight_map(index)
    lost = sorted(
        name
        for name, shard in named.items()
        if name not in entries or entries[name].file.name != shard
    )
    if lost:
        raise ValueError(f"{index} names tensors that are not in their shards: {', '.join(lost)}.")


def _header(file: Path) -> dict[str, TensorInfo]:
    """What a safetensors file says that it holds: a length, a table as JSON, then the numbers.

    Source: https://github.com/huggingface/safetensors#format.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise _broken(file, f"its header should be {length} bytes")
        try:
            table = json.loads(stream.read(length))
        except ValueError:
            raise _broken(file, "its header is no table") from None
    if not isinstance(table, dict):
        raise _broken(file, "its header is no table")
    start, entries, end = 8 + length, {}, 0
    for name, about in table.items():
        if name == "__metadata__":
            continue
        entries[name] = _entry(file, name, about, start)
        end = max(end, about["data_offsets"][1])
    if size != start + end:
        raise _broken(file, f"its tensors should end at byte {start + end:,}")
    return entries


def _entry(file: Path, name: str, about: dict[str, Any], start: int) -> TensorInfo:
    try:
        dtype, shape = about["dtype"], tuple(map(int, about["shape"]))
        first, last = map(int, about["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _broken(file, f"its header does not say where {name} lies") from None
    if dtype not in DTYPES:
        raise ValueError(
            f"{file} stores {name} as {dtype}, but the known types are {', '.join(DTYPES)}: take a "
            "checkpoint that is not quantised."
        )
    if first < 0 or last - first != torch.Size(shape).numel() * DTYPES[dtype].itemsize:
        raise _broken(file, f"{name} takes {last - first} bytes for the shape {list(shape)}")
    return TensorInfo(file, start + first, DTYPES[dtype], shape)


def _broken(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{file} is truncated or no safetensors file, for {why}, and it has "
        f"{file.stat().st_size:,}: download it again."
    )


def _fill(file: Any, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):  # the system reads at most 2 GiB at once
        count = file.readinto(buffer[done:])
        if not count:
            raise ValueError(f"{file.name} ended while it was read: download it again.")
        done += count
