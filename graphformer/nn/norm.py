"""Normalisation in float32 for weights of lower precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """Llama's RMS normalization: in float32, rounded to the input's dtype before the weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [..., C]; [..., C]."""
        wide = x.float()
        assert self.eps is not None
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)
