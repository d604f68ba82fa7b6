"""GGUF files: config, tensors and tokenizer of a checkpoint of llama.cpp, dequantized on reading.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.pretrained.gguf.architectures import ARCHITECTURES, GPT2_KEYS
from graphformer.pretrained.gguf.settings import read_settings

CHUNK = 1 << 22
"""Numbers that are dequantized at a time."""


class GGUFFile:
    """Settings and tensors of a GGUF file, by their names in `transformers`.

    It is a `TensorReader`: each tensor is dequantized to float32 in parts when it is read.

    Args:
        path: of the file.

    Raises:
        ModuleNotFoundError: when the package `gguf` is not installed.
        ValueError: when the file is malformed, or its architecture is not supported.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"source: got {path}, which needs the package gguf; install it by pip install "
                '"graphformer[gguf]"'
            ) from None
        try:
            reader: Any = gguf.GGUFReader(path)
        except (ValueError, OSError, IndexError, KeyError) as error:
            raise ValueError(
                f"{path}: not a GGUF file that can be read ({error}); if it is truncated, download "
                "it again"
            ) from None
        if reader.byte_order == "S":
            raise ValueError(
                f"{path}: got numbers in big-endian order, expected little-endian; convert the "
                "file with gguf-convert-endian"
            )
        self.path, self.fields = path, reader.fields
        self._dequantize: Callable[..., np.ndarray] = gguf.quants.dequantize
        name = self.get("general.architecture")
        if name not in ARCHITECTURES:
            raise ValueError(
                f"{path}: got 'general.architecture': {name!r}, expected one of "
                f"{', '.join(ARCHITECTURES)}"
            )
        self.prefix, self.architecture = name, ARCHITECTURES[name]
        self._check_whole()
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._check_rope_factors(tensors.pop("rope_freqs.weight", None))
        self.tensors = {self._key(name): tensor for name, tensor in tensors.items()}

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting of the file, a number, text or list; or the default without one."""
        field = self.fields.get(name)
        return default if field is None else field.contents()

    def config(self) -> dict[str, Any]:
        """Return the settings as those of config.json.

        Raises:
            ValueError: when a setting is missing or not supported.
        """
        own = self.architecture
        embedding = f"{own.keys['token_embd']}.weight"
        if embedding not in self.tensors:
            raise ValueError(f"{self.path}: lacks the tensor 'token_embd.weight'; use another file")
        config: dict[str, Any] = {"model_type": own.model_type, "architectures": [own.name]}
        return (
            config
            | read_settings(self.get, self.prefix, own, self.path)
            | {"vocab_size": self.get_shape(embedding)[0]}
            | {"tie_word_embeddings": "lm_head.weight" not in self.tensors}
            | {name: f"{part}.bias" in self.tensors for name, part in own.biases.items()}
        )

    def _check_whole(self) -> None:
        count, kind = self.get("split.count", 1), self.get("general.type", "model")
        if count > 1:
            raise ValueError(
                f"{self.path}: got part {self.get('split.no', 0) + 1} of {count}, expected one "
                "file; join the parts with llama-gguf-split --merge"
            )
        if kind != "model":
            raise ValueError(f"{self.path}: got 'general.type': {kind!r}, expected 'model'")

    def _check_rope_factors(self, tensor: Any) -> None:
        if tensor is not None and not np.all(np.asarray(tensor.data) == 1):
            raise ValueError(
                f"{self.path}: got 'rope_freqs', factors of rotary frequencies as of Llama 3.1, "
                "expected none; use the checkpoint's Hugging Face folder"
            )

    def _key(self, name: str) -> str:
        """Return the key of a tensor in `transformers`; its own name if it is unknown."""
        stem, _, last = name.rpartition(".")
        number = re.search(r"blk\.(\d+)\.", stem)
        general = re.sub(r"blk\.\d+\.", "blk.#.", stem)
        if general not in self.architecture.keys:
            return name
        key = f"{self.architecture.keys[general]}.{last}"
        return key if number is None else key.replace("#", number[1])

    def keys(self) -> list[str]:
        """Return the keys of all tensors."""
        return list(self.tensors)

    def get_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor as `transformers` has it."""
        shape = tuple(int(size) for size in reversed(self.tensors[key].shape))
        return shape[::-1] if self._is_transposed(key) else shape

    def get_dtype(self, key: str) -> torch.dtype:
        """Return float32: tensors are dequantized to it."""
        return torch.float32

    def read_into(self, key: str, out: Tensor) -> None:
        """Dequantize a tensor into `out`, in parts of rows."""
        tensor = self.tensors[key]
        out = out.T if self._is_transposed(key) else out
        rows = tensor.data if tensor.data.ndim > 1 else tensor.data[np.newaxis]
        target = out if out.ndim > 1 else out.unsqueeze(0)
        step = len(rows)
        heads = self._num_heads(key)
        if heads is None:
            step = max(1, CHUNK // max(1, target.shape[-1]))
        offset = self.architecture.norm_offset if key.endswith("norm.weight") else 0.0
        for start in range(0, len(rows), step):
            try:
                part = self._dequantize(rows[start : start + step], tensor.tensor_type)
            except NotImplementedError:
                raise ValueError(
                    f"{self.path}: got {tensor.name!r} of type {tensor.tensor_type.name}, expected "
                    "one that the package gguf dequantizes; use another file of the model"
                ) from None
            values = torch.from_numpy(np.array(part, np.float32)) - offset
            if heads is not None:
                values = _unpermute(values.view(out.shape), heads).view(target.shape)
            target[start : start + step].copy_(values)

    def _is_transposed(self, key: str) -> bool:
        """Whether the tensor is the weight of a convolution in `transformers`, as in GPT-2."""
        is_map = ".attn.c_" in key or ".mlp.c_" in key
        return self.architecture.keys is GPT2_KEYS and is_map and key.endswith("weight")

    def _num_heads(self, key: str) -> int | None:
        """Return the heads of a map to queries or keys that is stored in another order of rows."""
        names = {"q_proj": "head_count", "k_proj": "head_count_kv"}
        found = re.search(r"\.([qk]_proj)\.", key)
        if not self.architecture.rotates_pairs or found is None:
            return None
        all_heads = self.get(f"{self.prefix}.attention.head_count")
        heads = self.get(f"{self.prefix}.attention.{names[found[1]]}", all_heads)
        return int(heads[0] if isinstance(heads, list) else heads)


def _unpermute(weight: Tensor, heads: int) -> Tensor:
    """Return rows in the order of two halves of a head, of those in pairs; [H * D] or [H * D, C].

    llama.cpp rotates dimensions 2 i and 2 i + 1 of a head, `transformers` i and i + D / 2.
    """
    pairs = weight.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
