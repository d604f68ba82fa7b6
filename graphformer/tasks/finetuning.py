"""Fine-tuning: frozen parts, learning rates by layer, low-rank adapters."""

from __future__ import annotations

import os
import re
from typing import Any

from torch import Tensor, nn

_BLOCK = re.compile(r"(?:^|\.)transformer\.blocks\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)embedding\.")
DEFAULT_LORA_TARGETS = ("qkv", "out")
"""Linear maps with adapters unless `target_modules` is set: those of attention."""


def freeze(network: nn.Module, *, blocks: int = 0, embedding: bool = False) -> None:
    """Exclude the first blocks and, optionally, the embedding from training.

    A head that shares the embedding's weights is frozen with it.

    Args:
        network: with `embedding` and `transformer.blocks`.
        blocks: number of blocks.
        embedding: whether the embedding is frozen.

    Raises:
        ValueError: when there are fewer blocks, or the network has no such parts.
    """
    depth = _num_blocks(network)
    if not 0 <= blocks <= depth:
        raise ValueError(f"frozen_blocks: got {blocks}, expected 0 to {depth}, the depth")
    for name, parameter in network.named_parameters():
        block = _BLOCK.search(name)
        if (block and int(block[1]) < blocks) or (embedding and _EMBEDDING.search(name)):
            parameter.requires_grad_(False)


def layer_lr_factors(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """Return the factor on the learning rate of each weight: `decay ** (depth + 1 - layer)`.

    The embedding is layer 0, block i is layer i + 1, and what follows the blocks is layer
    depth + 1.

    Raises:
        ValueError: when the network has no `transformer.blocks`, or the decay is out of range.

    Source: Clark et al., 2020 (ELECTRA), appendix A; Bao et al., 2022 (BEiT), appendix.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay: got {decay}, expected a number above 0 and at most 1")
    depth = _num_blocks(network)
    factors: dict[Tensor, float] = {}
    for name, parameter in network.named_parameters():
        block = _BLOCK.search(name)
        layer = int(block[1]) + 1 if block else 0 if _EMBEDDING.search(name) else depth + 1
        factors[parameter] = decay ** (depth + 1 - layer)
    return factors


def add_lora(network: nn.Module, settings: dict[str, Any]) -> Any:
    """Insert low-rank adapters into a network, in place; all weights but these are frozen.

    Args:
        network: changed in place.
        settings: those of `peft.LoraConfig`, such as r, lora_alpha, lora_dropout and
            target_modules ("qkv" and "out" by default). The head is trained too, unless
            modules_to_save is set.

    Returns:
        peft's model of the network, which saves and merges adapters.

    Raises:
        ModuleNotFoundError: when peft is not installed.
        ValueError: when peft does not accept the settings.

    Source: Hu et al., 2022, "LoRA".
    """
    peft = _import_peft()
    config = {"target_modules": list(DEFAULT_LORA_TARGETS), **settings}
    if getattr(network, "head", None) is not None and _has_weights(network.head):
        config.setdefault("modules_to_save", ["head"])
    try:
        return peft.get_peft_model(network, peft.LoraConfig(**config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora: got {settings}, expected settings of peft: {error}") from None


def load_lora(network: nn.Module, folder: str | os.PathLike[str]) -> Any:
    """Insert the adapters of a folder into a network, in place; return peft's model of it.

    Raises:
        ModuleNotFoundError: when peft is not installed.
    """
    return _import_peft().PeftModel.from_pretrained(network, os.fspath(folder))


def merge_lora(adapted: Any) -> nn.Module:
    """Merge the adapters of peft's model into the weights; return the network without them."""
    network = adapted.get_base_model()
    # peft reads any attribute `config` as settings; a network without settings has None.
    has_none = network.__dict__.get("config", True) is None
    if has_none:
        del network.config
    merged: nn.Module = adapted.merge_and_unload()
    if has_none:
        merged.config = None  # type: ignore[assignment]
    return merged


def _import_peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ModuleNotFoundError(
            "lora needs the package peft; install it with pip install 'graphformer[peft]'",
            name="peft",
        ) from None
    return peft


def _has_weights(module: Any) -> bool:
    return next(module.parameters(), None) is not None


def _num_blocks(network: Any) -> int:
    blocks = getattr(getattr(network, "transformer", None), "blocks", None)
    if blocks is None:
        raise ValueError(
            f"network: got {type(network).__name__}, expected one with an embedding and "
            "transformer.blocks for frozen_blocks, frozen_embedding or layer_decay"
        )
    return len(blocks)
