"""The settings of a GGUF file as those of config.json.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; where a setting is missing,
llama.cpp's default.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphformer.pretrained.gguf.architectures import Architecture

WIDE_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Blocks of Gemma 2 27B and Gemma 3 27B, whose scale of the logits differs from smaller models."""


def read_settings(
    get: Callable[..., Any], prefix: str, own: Architecture, path: Path
) -> dict[str, Any]:
    """Return the settings of a file, by their names in config.json.

    Args:
        get: returns a setting of the file by its name, or a default.
        prefix: the name of the architecture, with which names of settings start.
        own: the architecture.
        path: of the file.

    Raises:
        ValueError: when a setting is missing or not supported.
    """

    def read(name: str, default: Any = None) -> Any:
        return get(f"{prefix}.{name}", default)

    _check_unset(read, prefix, path)
    config: dict[str, Any] = {}
    for stored, name in own.sizes.items():
        value = _of_all_blocks(read(stored), f"{prefix}.{stored}", path)
        if value is not None:
            config[name] = value
        elif stored.endswith("epsilon"):  # no default of the architecture
            raise ValueError(f"{path}: lacks {prefix + '.' + stored!r}; add it")
    for role, stored in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
        config[f"{role}_token_id"] = get(f"tokenizer.ggml.{stored}_token_id")
    if "rope.freq_base" not in own.sizes:
        return config
    config.setdefault("rope_theta", 10_000.0)
    width = _head_width(config)
    if width is not None:
        config.setdefault("head_dim", width)
    rotated = read("rope.dimension_count", config.get("head_dim"))
    if rotated != config.get("head_dim"):
        raise ValueError(
            f"{path}: got '{prefix}.rope.dimension_count': {rotated}, expected the width of a "
            f"head, {config.get('head_dim')}; rotary positions of a part of it are not supported"
        )
    if prefix in WIDE_GEMMA:
        config["query_pre_attn_scalar"] = _query_scalar(config, prefix)
    return config | _rope_scaling(read)


def _check_unset(read: Callable[..., Any], prefix: str, path: Path) -> None:
    """Check that settings that the model does not support have their default."""
    for name, default in {"expert_count": 0, "attention.causal": True}.items():
        value = read(name, default)
        if value != default:
            raise ValueError(f"{path}: got '{prefix}.{name}': {value}, expected {default}")


def _of_all_blocks(value: Any, name: str, path: Path) -> Any:
    """Return a setting, or the number that a list has for all blocks."""
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{path}: got {name!r}: {value}, expected one number for all blocks")
    return value[0]


def _head_width(config: dict[str, Any]) -> int | None:
    """Return the width divided by the number of heads; None where one of them is invalid."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    is_valid = isinstance(width, int) and isinstance(heads, int) and heads > 0
    return width // heads if is_valid else None  # type: ignore[operator]


def _query_scalar(config: dict[str, Any], prefix: str) -> int:
    """Return 1 / s^2 for the scale s of Gemma's logits, which the file does not contain.

    As in llama.cpp it is the width of a head, but in the largest model of a version it is the
    width divided by the number of heads.
    """
    is_wide = config.get("num_hidden_layers") == WIDE_GEMMA[prefix]
    own = _head_width(config) if is_wide else config.get("head_dim")
    return 256 if own is None else own


def _rope_scaling(read: Callable[..., Any]) -> dict[str, Any]:
    """Return the scaling of rotary positions; older files have `rope.scale_linear`."""
    kind = read("rope.scaling.type")
    factor = read("rope.scaling.factor", read("rope.scale_linear", 1.0))
    if kind is None:
        kind = "linear" if factor != 1 else "none"
    if kind == "none":
        return {}
    scaling = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        names = {
            "original_context_length": "original_max_position_embeddings",
            "yarn_beta_fast": "beta_fast",
            "yarn_beta_slow": "beta_slow",
        }
        found = {name: read(f"rope.scaling.{stored}") for stored, name in names.items()}
        scaling |= {name: value for name, value in found.items() if value is not None}
        share = read("rope.scaling.yarn_attn_factor", read("rope.scaling.attn_factor"))
        if share is not None:
            scaling["attention_factor"] = share * (1 + 0.1 * math.log(max(factor, 1)))
    return {"rope_scaling": scaling}
