"""Dropout as a module, with the fused CPU implementation of `graphformer.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from graphformer.ops import dropout


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` computed by `graphformer.ops.dropout`, which is faster on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, of any shape, with units dropped in training."""
        if not self.training:  # returns early: decoding calls this a dozen times per token
            return input
        if self.inplace:
            return super().forward(input)
        return dropout(input, self.p, self.training)


def with_drop_path(
    block: Callable[..., Tensor], probability: float, lengths: Sequence[int] | None
) -> Callable[..., Tensor]:
    """Return a block that is left out for random samples: x + m (block(x) - x) / (1 - p).

    m is 0 with probability p and 1 otherwise, one draw for all nodes of a sample, so that the
    expected change of x is that of the block.

    Args:
        block: called as `block(x, ...)`, [N, C] -> [N, C].
        probability: p.
        lengths: number of nodes of each sample; None for one sample.

    Source: Huang et al., 2016, "Deep networks with stochastic depth".
    """

    def dropped(x: Tensor, *inputs: object, **options: object) -> Tensor:
        sizes = torch.tensor([len(x)] if lengths is None else list(lengths), device=x.device)
        kept = torch.rand(len(sizes), device=x.device) >= probability
        scale = (kept.to(x.dtype) / (1 - probability)).repeat_interleave(sizes).unsqueeze(1)
        return x + scale * (block(x, *inputs, **options) - x)

    return dropped
