"""Labels, outputs and tokenizer of a batch, as losses and metrics need them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from graphformer.batch_type import BatchLike

if TYPE_CHECKING:
    from graphformer.data import Tokenizer

_LABELS = ("y", "y_other", "edge_label")


def convert_floats(batch: BatchLike, dtype: torch.dtype) -> BatchLike:
    """Return a copy of a batch with its floating-point tensors in `dtype`.

    Labels are not converted to a narrower type: losses and metrics compare them in float32.
    """
    converted = copy.copy(batch)  # `apply` changes its object, which may be the data set's own
    narrow = torch.finfo(dtype).bits < 32
    names = set(converted.keys()) - (set(_LABELS) if narrow else set())
    return converted.apply(lambda t: t.to(dtype) if t.is_floating_point() else t, *names)


def nonzero(count: Tensor) -> Tensor:
    """Return a count, or 1 if it is 0, as the divisor of a sum without terms."""
    return torch.where(count == 0, torch.ones_like(count), count)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor in float32 if its dtype is narrower, for losses and metrics."""
    return x if x.dtype == torch.float64 else x.float()


def label_mask(batch: BatchLike, stage: str, level: str = "node") -> Tensor | None:
    """Return which rows of the output belong to a stage, bool [rows]; None for all rows.

    A batch with `train_mask`, `val_mask` and `test_mask` is one graph whose nodes are split; one
    with `train_edge_mask` and so on has split edges.

    Args:
        batch: the batch.
        stage: "train", "val" or "test".
        level: "node", "graph" or "edge".
    """
    name = f"{stage}_edge_mask" if level == "edge" else f"{stage}_mask"
    mask: Tensor | None = getattr(batch, name, None)
    return mask


def check_output_rows(output: Tensor, y: Tensor, level: str) -> Tensor:
    """Return the output if it has one row per label.

    Raises:
        ValueError: when it has another number of rows.
    """
    if output.shape[0] != y.shape[0]:
        raise ValueError(
            f"level: got {level!r} and an output of {output.shape[0]} rows for {y.shape[0]} "
            "labels, expected one row per label; a graph task needs a pooling head, a node task "
            "must not have one"
        )
    return output


def require_tokenizer(task: pl.LightningModule) -> Tokenizer:
    """Return the tokenizer of the data that the trainer uses.

    Raises:
        ValueError: when the data has none.
    """
    data: Any = getattr(task.trainer, "datamodule", None)
    tokenizer: Tokenizer | None = getattr(data, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"data: got {type(data).__name__}, expected data with a tokenizer for "
            f"{type(task).__name__}; use TextFile, TextRecords, LabelledText or TextPairs"
        )
    return tokenizer
