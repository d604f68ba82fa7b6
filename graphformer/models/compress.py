"""Smaller models: magnitude pruning by torch, and 8-bit weights by torchao."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import prune

Scope = Literal["layer", "model"]


def prune_weights(model: nn.Module, share: float, *, scope: Scope = "layer") -> float:
    """Set the weights of the smallest magnitude in the linear maps of the blocks to zero, in place.

    Each weight becomes `weight_orig * weight_mask` (torch.nn.utils.prune), so that further training
    keeps the zeros; `finish_pruning` makes them permanent. Pruning again prunes more of the rest.

    Args:
        model: with blocks at `model.transformer.blocks`.
        share: of the weights that are not zero yet, at least 0 and below 1.
        scope: whether the share is that of each map ("layer") or of all together ("model").

    Returns:
        The sparsity afterwards, see `sparsity`.

    Raises:
        ValueError: when the share is out of range, or the model has no blocks.

    Source: Han et al., 2015; of BERT: Gordon et al., 2020, "Compressing BERT".
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: got {share}, expected at least 0 and below 1")
    maps = [(module, "weight") for module in _block_maps(model)]
    if scope == "model":
        prune.global_unstructured(maps, pruning_method=prune.L1Unstructured, amount=share)
    else:
        for module, name in maps:
            prune.l1_unstructured(module, name, amount=share)
    return sparsity(model)


def finish_pruning(model: nn.Module) -> nn.Module:
    """Replace pruned weights by ordinary ones with the same zeros, in place, and return the model.

    A model is saved in another library's format after this. Without pruned weights nothing changes.
    """
    for module in model.modules():
        if prune.is_pruned(module) and hasattr(module, "weight_orig"):
            prune.remove(module, "weight")
    return model


def sparsity(model: nn.Module) -> float:
    """Return the share of zeros in the weights of the linear maps of the blocks.

    Raises:
        ValueError: when the model has no blocks.
    """
    weights = [module.weight for module in _block_maps(model)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)


def quantize_weights(model: nn.Module, *, embedding: bool = True) -> nn.Module:
    """Store the weights of linear maps in 8 bits with a scale for each row, in place.

    Products are computed in the activations' type, so that only the weights are rounded. The model
    is for inference; pruned weights are made permanent before, and a head that shares
    the embedding's weights gets its own.

    Args:
        model: with a token embedding at `model.embedding.features`, unless `embedding` is false.
        embedding: whether the token embedding has 8 bits too, with a scale for each token.

    Returns:
        The model.

    Raises:
        ModuleNotFoundError: when torchao is not installed.

    Source: Dettmers et al., 2022, "LLM.int8()"; of BERT with embeddings: Shen et al., 2020, Q-BERT.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerAxis
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "8-bit weights need the package torchao; install it with "
            "pip install 'graphformer[optimizers]'"
        ) from None
    finish_pruning(model)
    tokens = model.get_submodule("embedding.features") if embedding else None
    quantize_(model, Int8WeightOnlyConfig())
    if tokens is not None:
        by_row = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0))
        quantize_(model, by_row, filter_fn=lambda module, _: module is tokens)
    return model


def stored_bytes(model: nn.Module) -> int:
    """Return the size of a file with the model's state, without compression."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getbuffer().nbytes


def _block_maps(model: nn.Module) -> Iterator[nn.Linear]:
    """Yield the linear maps of the blocks.

    Raises:
        ValueError: when there are none.
    """
    blocks = getattr(getattr(model, "transformer", None), "blocks", None)
    maps = [] if blocks is None else [m for m in blocks.modules() if isinstance(m, nn.Linear)]
    if not maps:
        raise ValueError(
            f"model: got {type(model).__name__}, expected one with linear maps in "
            "model.transformer.blocks; use a graphformer Model"
        )
    yield from maps
