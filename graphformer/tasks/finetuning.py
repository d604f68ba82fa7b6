"""Which weights of a network are trained, and how fast: frozen parts, decay by layer, adapters."""

from __future__ import annotations

import os
import re
from typing import Any

from torch import Tensor, nn

_BLOCK = re.compile(r"(?:^|\.)transformer\.blocks\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)embedding\.")
DEFAULT_LORA_TARGETS = ("qkv", "out")
"""The linear maps that get adapters unless `target_modules` says which: those of attention."""


def freeze(network: nn.Module, *, blocks: int = 0, embedding: bool = False) -> None:
    """Train neither the first blocks of a network nor, if asked for, its embedding.

    A head that has the embedding's weights is frozen with it.

    Args:
        network: with `embedding` and `transformer.blocks`.
        blocks: how many.
        embedding: whether it is frozen too.

    Raises ValueError for more blocks than there are, and for a network without such parts.
    """
    depth = _depth(network)
    if not 0 <= blocks <= depth:
        raise ValueError(f"frozen_blocks must be from 0 to the depth {depth}, got {blocks}")
    for name, parameter in network.named_parameters():
        block = _BLOCK.search(name)
        if (block and int(block[1]) < blocks) or (embedding and _EMBEDDING.search(name)):
            parameter.requires_grad_(False)


def layer_lr_factors(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """The factor on the learning rate of each weight: the lower the layer, the smaller.

    `decay ** (depth + 1 - layer)`, where the embedding is layer 0, block i is layer i + 1, and all
    that comes after the blocks is layer depth + 1.

    Raises ValueError for a network without `transformer.blocks`, and a decay out of range.

    Source: Clark et al., 2020 (ELECTRA), appendix A; Bao et al., 2022 (BEiT), appendix.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1, got {decay}")
    depth = _depth(network)
    rates: dict[Tensor, float] = {}
    for name, parameter in network.named_parameters():
        block = _BLOCK.search(name)
        layer = int(block[1]) + 1 if block else 0 if _EMBEDDING.search(name) else depth + 1
        rates[parameter] = decay ** (depth + 1 - layer)
    return rates


def add_lora(network: nn.Module, settings: dict[str, Any]) -> Any:
    """Put adapters of low rank into a network, in place; they and the head are what is trained.

    Args:
        network: stays the module that it is, with adapters inside.
        settings: those of `peft.LoraConfig`, such as r, lora_alpha, lora_dropout and
            target_modules ("qkv" and "out" by default); the head is trained as a whole unless
            modules_to_save says otherwise.

    Returns:
        peft's model of the network, which saves and merges adapters.

    Raises ModuleNotFoundError without peft, ValueError for settings that it does not know.

    Source: Hu et al., 2022, "LoRA".
    """
    peft = _peft()
    given = {"target_modules": list(DEFAULT_LORA_TARGETS), **settings}
    if getattr(network, "head", None) is not None and _has_weights(network.head):
        given.setdefault("modules_to_save", ["head"])
    try:
        return peft.get_peft_model(network, peft.LoraConfig(**given))
    except (TypeError, ValueError) as error:
        raise ValueError(f"lora is {settings}, which peft refuses: {error}") from None


def load_lora(network: nn.Module, folder: str | os.PathLike[str]) -> Any:
    """Put the adapters of a folder into a network, in place; peft's model of it.

    Raises ModuleNotFoundError without peft.
    """
    return _peft().PeftModel.from_pretrained(network, os.fspath(folder))


def merge_lora(adapted: Any) -> nn.Module:
    """The network of peft's model, the adapters merged into its weights and gone."""
    network = adapted.get_base_model()
    unset = network.__dict__.get("config", True) is None
    if unset:  # peft takes any attribute of that name for settings
        del network.config
    merged: nn.Module = adapted.merge_and_unload()
    if unset:
        merged.config = None  # type: ignore[assignment]
    return merged


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ModuleNotFoundError(
            "lora needs the package peft: install it with pip install 'graphformer[peft]'",
            name="peft",
        ) from None
    return peft


def _has_weights(module: Any) -> bool:
    return next(module.parameters(), None) is not None


def _depth(network: Any) -> int:
    blocks = getattr(getattr(network, "transformer", None), "blocks", None)
    if blocks is None:
        raise ValueError(
            "frozen_blocks, frozen_embedding and layer_decay need a network with an embedding and "
            f"transformer.blocks, got {type(network).__name__}"
        )
    return len(blocks)
