"""Dropout as a module, fast on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from graphformer.ops import dropout


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with `graphformer.ops.dropout`: on a CPU a small part of its cost."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        if not self.training:  # at once: decoding asks a dozen times a token
            return input
        if self.inplace:
            return super().forward(input)
        return dropout(input, self.p, self.training)
