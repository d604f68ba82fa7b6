"""Tensor readers: by key, from the safetensors files of a folder or from a state dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import RawIOBase
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
"""The dtypes of safetensors files that torch has."""
SAFE_WEIGHTS_NAME = "model.safetensors"
SAFE_WEIGHTS_INDEX_NAME = "model.safetensors.index.json"
PICKLED_WEIGHTS_NAMES = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
)


class TensorInfo(NamedTuple):
    """Location, dtype and shape of a tensor in a safetensors file."""

    file: Path
    offset: int
    """Of the first byte, from the start of the file."""
    dtype: torch.dtype
    shape: tuple[int, ...]


class TensorReader(Protocol):
    """Tensors by key, read one by one."""

    def keys(self) -> list[str]:
        """Return the keys of all tensors."""

    def get_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def get_dtype(self, key: str) -> torch.dtype:
        """Return the dtype of a tensor."""

    def read_into(self, key: str, out: Tensor) -> None:
        """Copy a tensor to `out`, of the same shape and any dtype."""


class SafetensorsReader:
    """Reads tensors from a folder into their destination, without a second copy in memory.

    Args:
        folder: with model.safetensors, or with shards and their index.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a file is malformed, or the weights are pickled only.
    """

    def __init__(self, folder: Path) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        for file in _weight_files(folder):
            infos = _read_header(file)
            duplicate = self.tensors.keys() & infos.keys()
            if duplicate:
                raise ValueError(
                    f"{file}: got {', '.join(sorted(duplicate))}, which another shard has too, "
                    "expected each tensor once; download the shards again"
                )
            self.tensors |= infos
        index = folder / SAFE_WEIGHTS_INDEX_NAME
        if index.is_file() and not (folder / SAFE_WEIGHTS_NAME).is_file():
            _check_index(index, self.tensors)

    def keys(self) -> list[str]:
        """Return the keys of all shards."""
        return list(self.tensors)

    def get_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape in the file's header."""
        return self.tensors[key].shape

    def get_dtype(self, key: str) -> torch.dtype:
        """Return the dtype in the file's header."""
        return self.tensors[key].dtype

    def read_into(self, key: str, out: Tensor) -> None:
        """Read a tensor into `out`, directly if `out` is contiguous and of the same dtype."""
        info = self.tensors[key]
        direct = out.dtype == info.dtype and out.is_contiguous() and out.device.type == "cpu"
        target = out if direct else torch.empty(info.shape, dtype=info.dtype)
        if target.numel():
            with open(info.file, "rb", buffering=0) as file:
                file.seek(info.offset)
                raw: Any = target.detach().view(-1).view(torch.uint8).numpy()
                _read_exactly(file, memoryview(raw), info.file)
        if not direct:
            out.copy_(target)


class StateDictReader:
    """Reads tensors from a state dict.

    Args:
        tensors: by key, such as `model.state_dict()`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    def keys(self) -> list[str]:
        """Return the keys of the state dict."""
        return list(self.tensors)

    def get_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the state dict."""
        return tuple(self.tensors[key].shape)

    def get_dtype(self, key: str) -> torch.dtype:
        """Return the dtype of a tensor of the state dict."""
        return self.tensors[key].dtype

    def read_into(self, key: str, out: Tensor) -> None:
        """Copy a tensor of the state dict to `out`."""
        out.copy_(self.tensors[key])


class OverlayReader:
    """A reader with additional tensors in memory, which take precedence.

    Args:
        base: the reader.
        tensors: the additional tensors, by key.
    """

    def __init__(self, base: TensorReader, tensors: Mapping[str, Tensor]) -> None:
        self.base, self.overlay = base, StateDictReader(tensors)

    def keys(self) -> list[str]:
        """Return the keys of both."""
        return [*self.base.keys(), *self.overlay.keys()]

    def get_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape from the reader that has the key."""
        return self._reader(key).get_shape(key)

    def get_dtype(self, key: str) -> torch.dtype:
        """Return the dtype from the reader that has the key."""
        return self._reader(key).get_dtype(key)

    def read_into(self, key: str, out: Tensor) -> None:
        """Copy a tensor to `out` from the reader that has the key."""
        self._reader(key).read_into(key, out)

    def _reader(self, key: str) -> TensorReader:
        return self.overlay if key in self.overlay.tensors else self.base


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: when the file is not valid JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: got malformed JSON, {error}; download it again") from None


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder: one, or the shards of the index."""
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        shards = sorted(set(_weight_map(index).values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder}: lacks {', '.join(missing)}, expected all {len(shards)} shards of "
                f"{SAFE_WEIGHTS_INDEX_NAME}; download them again"
            )
        return [folder / shard for shard in shards]
    pickled = [name for name in PICKLED_WEIGHTS_NAMES if (folder / name).is_file()]
    if pickled:
        raise ValueError(
            f"{folder}: got weights as {pickled[0]} only, expected safetensors, for loading a "
            "pickle executes its code; convert them with transformers.AutoModel.from_pretrained("
            f"{str(folder)!r}).save_pretrained(NEW_FOLDER)"
        )
    raise FileNotFoundError(
        f"{folder}: got no weights, expected {SAFE_WEIGHTS_NAME} or {SAFE_WEIGHTS_INDEX_NAME}"
    )


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each key, from an index."""
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index}: got no 'weight_map', expected a file name for each tensor")
    outside = [shard for shard in weight_map.values() if Path(str(shard)).name != shard]
    if outside:  # an index must not name files elsewhere, such as ../secret
        raise ValueError(
            f"{index}: got the shard {outside[0]!r}, expected file names in the same folder"
        )
    return weight_map


def _check_index(index: Path, tensors: dict[str, TensorInfo]) -> None:
    """Check that each tensor of the index is in the shard that the index names."""
    missing = sorted(
        key
        for key, shard in _weight_map(index).items()
        if key not in tensors or tensors[key].file.name != shard
    )
    if missing:
        raise ValueError(
            f"{index}: got tensors that are not in their shards: {', '.join(missing)}; download "
            "the shards again"
        )


def _read_header(file: Path) -> dict[str, TensorInfo]:
    """Read the header of a safetensors file: 8 bytes of length, JSON, then the tensors.

    Source: https://github.com/huggingface/safetensors#format.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise _malformed(file, f"its header should have {length} bytes")
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            raise _malformed(file, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _malformed(file, "its header is not a JSON object")
    start, tensors, end = 8 + length, {}, 0
    for key, fields in header.items():
        if key == "__metadata__":
            continue
        tensors[key] = _tensor_info(file, key, fields, start)
        end = max(end, fields["data_offsets"][1])
    if size != start + end:
        raise _malformed(file, f"its tensors should end at byte {start + end:,}")
    return tensors


def _tensor_info(file: Path, key: str, fields: dict[str, Any], start: int) -> TensorInfo:
    try:
        dtype, shape = fields["dtype"], tuple(map(int, fields["shape"]))
        first, last = map(int, fields["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _malformed(file, f"its header has no location of {key}") from None
    if dtype not in DTYPES:
        raise ValueError(
            f"{file}: got the dtype {dtype} of {key}, expected one of {', '.join(DTYPES)}; use a "
            "checkpoint that is not quantized"
        )
    if first < 0 or last - first != torch.Size(shape).numel() * DTYPES[dtype].itemsize:
        raise _malformed(file, f"{key} has {last - first} bytes for the shape {list(shape)}")
    return TensorInfo(file, start + first, DTYPES[dtype], shape)


def _malformed(file: Path, reason: str) -> ValueError:
    return ValueError(
        f"{file} is truncated or not a safetensors file: {reason}, and it has "
        f"{file.stat().st_size:,}; download it again"
    )


def _read_exactly(file: RawIOBase, buffer: memoryview, name: Path) -> None:
    """Fill the buffer from a file."""
    done = 0
    while done < len(buffer):  # a single read returns at most 2 GiB
        count = file.readinto(buffer[done:])
        if not count:
            raise ValueError(f"{name}: the file ended while it was read; download it again")
        done += count
