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

CHUNK = 1 << 22
"""Numbers that are dequantized at a time."""

WIDE_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Blocks of Gemma 2 27B and Gemma 3 27B, whose scale of the logits differs from smaller models."""


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
        self.path, self.fields = path, reader.fields
        self._dequantize: Callable[..., np.ndarray] = gguf.quants.dequantize
        name = self.get("general.architecture")
        if name not in ARCHITECTURES:
            raise ValueError(
                f"{path}: got 'general.architecture': {name!r}, expected one of "
                f"{', '.join(ARCHITECTURES)}"
            )
        self.prefix, self.architecture = name, ARCHITECTURES[name]
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
            ValueError: when a setting is not supported.
        """
        own = self.architecture
        if self.get(f"{self.prefix}.expert_count", 0):
            raise ValueError(f"{self.path}: got '{self.prefix}.expert_count', expected no experts")
        config: dict[str, Any] = {"model_type": own.model_type, "architectures": [own.name]}
        for stored, name in own.sizes.items():
            value = self.get(f"{self.prefix}.{stored}")
            if value is not None:
                config[name] = value
        embedding = own.keys["token_embd"]
        config["vocab_size"] = self.get_shape(f"{embedding}.weight")[0]
        config["tie_word_embeddings"] = "lm_head.weight" not in self.tensors
        for role in ("bos", "eos", "pad"):
            config[f"{role}_token_id"] = self.get(f"tokenizer.ggml.{role}_token_id")
        if self.prefix in WIDE_GEMMA:
            config["query_pre_attn_scalar"] = self._query_scalar(config)
        config |= self._rope_scaling()
        return config

    def _query_scalar(self, config: dict[str, Any]) -> int:
        """Return 1 / s^2 for the scale s of Gemma's logits, which the file does not contain.

        As in llama.cpp it is the width of a head, but in the largest model of a version it is the
        width divided by the number of heads.
        """
        if config["num_hidden_layers"] == WIDE_GEMMA[self.prefix]:
            return int(config["hidden_size"] // config["num_attention_heads"])
        return int(config.get("head_dim", 256))

    def _rope_scaling(self) -> dict[str, Any]:
        kind = self.get(f"{self.prefix}.rope.scaling.type", "none")
        if kind == "none":
            return {}
        factor = self.get(f"{self.prefix}.rope.scaling.factor", 1.0)
        return {"rope_scaling": {"rope_type": kind, "factor": factor}}

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
        heads = self.get(f"{self.prefix}.attention.head_count")
        return int(self.get(f"{self.prefix}.attention.{names[found[1]]}", heads))


def _unpermute(weight: Tensor, heads: int) -> Tensor:
    """Return rows in the order of two halves of a head, of those in pairs; [H * D] or [H * D, C].

    llama.cpp rotates dimensions 2 i and 2 i + 1 of a head, `transformers` i and i + D / 2.
    """
    pairs = weight.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
