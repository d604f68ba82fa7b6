"""Means over labels, and what a language model's loss is usually told as."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Mean over labels of what comes as sums over batches.

    torchmetrics' `MeanMetric` either waits for the device at every batch, to look for NaN, or drops
    the weights (`nan_strategy="disable"`, version 1.9).
    """

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add a batch: the sum over its labels [], their number []."""
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """The mean, []; NaN without a label."""
        return self.total / self.count


class Perplexity(Mean):
    """exp of the mean loss in nats."""

    def compute(self) -> Tensor:
        """Perplexity, []."""
        return super().compute().exp()


class BitsPerCharacter(Mean):
    """The mean loss a token in bits, by the number of characters a token."""

    def __init__(self, characters_per_token: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.characters_per_token = characters_per_token

    def compute(self) -> Tensor:
        """Bits per character, []."""
        return super().compute() / (math.log(2) * self.characters_per_token)


class BitsPerByte(Mean):
    """The mean loss a token in bits, by the number of bytes of UTF-8 a token.

    `bytes_per_token` is None until somebody knows it; then there is no figure to show.
    """

    bytes_per_token: float | None = None

    def compute(self) -> Tensor:
        """Bits per byte, []; NaN if the length of a token is not known."""
        return super().compute() / (math.log(2) * (self.bytes_per_token or math.nan))
