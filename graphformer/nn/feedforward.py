"""Feed-forward nets of transformer blocks, plain and gated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphformer.nn.dropout import Dropout


class FeedForward(nn.Sequential):
    """Two linear maps with a nonlinearity between them, x [N, C] -> [N, C].

    Args:
        dim: width C.
        hidden_dim: hidden width; 4 C by default.
        activation: the nonlinearity.
        dropout: probability of dropping a hidden unit in training.
        bias: whether the linear maps have a bias.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        *,
        activation: Callable[[], nn.Module] = nn.GELU,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        super().__init__(
            nn.Linear(dim, hidden_dim, bias=bias),
            activation(),
            Dropout(dropout),
            nn.Linear(hidden_dim, dim, bias=bias),
        )


class GatedFeedForward(nn.Module):
    """A feed-forward net with gates, out(act(gate(x)) * up(x)); SwiGLU with SiLU.

    Args:
        dim: width C.
        hidden_dim: hidden width; 8 C / 3 by default, for as many weights as without gates at 4 C.
        activation: the nonlinearity of the gates.
        dropout: probability of dropping a hidden unit in training.
        bias: whether the linear maps have a bias.

    Source: Shazeer, 2020, "GLU variants improve transformer".
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        *,
        activation: Callable[[], nn.Module] = nn.SiLU,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden_dim = 8 * dim // 3 if hidden_dim is None else hidden_dim
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=bias)
        self.activation, self.dropout = activation(), Dropout(dropout)
        self.out = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return out(act(gate(x)) * up(x)), [N, C] of x [N, C]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        hidden = self.activation(gate)
        # Without gradients the product needs no memory of its own, which for long texts is new to
        # the process in every block: its pages cost more than the product.
        reuses = not torch.is_grad_enabled() and hidden is not gate
        return self.out(self.dropout(hidden.mul_(up) if reuses else hidden * up))


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the approximation of GELU in CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x sigmoid(1.702 x), elementwise."""
        return x * (1.702 * x).sigmoid()
