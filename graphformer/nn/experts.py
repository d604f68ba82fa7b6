"""A mixture of experts: of several feed-forward nets, each node goes through its best few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MixtureOfExperts(nn.Module):
    """A feed-forward net of experts, x [N, C] -> [N, C]: each node is sent to `top_k` of them.

    The router gives each node a probability for each expert; the outputs of its best ones are
    weighted by these, made to add up to one. Nodes are grouped by expert, so the cost is that of
    `top_k` experts a node, however many there are, and none is dropped.

    After a forward pass in training `balance_loss` holds X sum_e f_e P_e for the X experts: f_e is
    the share of choices that fell on expert e, P_e its mean probability; 1 if all are even. Tasks
    add a multiple of `balance_loss(network)`.

    Args:
        dim: width C.
        hidden_dim: width in between of each expert; 4 C by default, 8 C / 3 if gated.
        num_experts: X.
        top_k: experts a node.
        num_shared: experts that every node goes through besides.
        gated: whether experts have gates, as `GatedFeedForward`.
        activation: the nonlinearity of the experts; GELU by default, SiLU if gated.

    Source: Shazeer et al., 2017; balance: Fedus et al., 2022 (Switch), section 2.2; shared
    experts: Dai et al., 2024 (DeepSeekMoE).
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        *,
        num_experts: int,
        top_k: int = 2,
        num_shared: int = 0,
        gated: bool = True,
        activation: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"top_k must be from 1 to num_experts {num_experts}, got {top_k}")
        hidden_dim = (8 * dim // 3 if gated else 4 * dim) if hidden_dim is None else hidden_dim
        self.top_k, self.num_shared, self.gated = top_k, num_shared, gated
        self.activation = (activation or (nn.SiLU if gated else nn.GELU))()
        self.router = nn.Linear(dim, num_experts, bias=False)
        total, width = num_experts + num_shared, 2 * hidden_dim if gated else hidden_dim
        self.up = nn.Parameter(torch.empty(total, width, dim))
        self.down = nn.Parameter(torch.empty(total, dim, hidden_dim))
        self.balance_loss: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the experts' maps as those of `nn.Linear`."""
        for weight in (self.up, self.down):
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C] -> [N, C]."""
        probability = self.router(x).float().softmax(-1)
        weight, expert = probability.topk(self.top_k, dim=-1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        if self.training:
            self.balance_loss = _balance(probability, expert)
        count = self.router.out_features
        # Choices in order of their expert: each expert's nodes lie side by side.
        order = expert.flatten().argsort(stable=True)
        sizes = torch.bincount(expert.flatten(), minlength=count).tolist()
        node = order // self.top_k
        parts = [
            self._expert(number, part)
            for number, part in enumerate(x[node].split(sizes))
            if len(part)
        ]
        mixed = torch.cat(parts) if parts else x[node]
        mixed = mixed * weight.flatten()[order].unsqueeze(-1)
        out = torch.zeros_like(x, dtype=mixed.dtype).index_add(0, node, mixed)
        for number in range(count, count + self.num_shared):
            out = out + self._expert(number, x)
        return out

    def _expert(self, number: int, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.up[number])
        if self.gated:
            gate, up = hidden.chunk(2, dim=-1)
            return F.linear(self.activation(gate) * up, self.down[number])
        return F.linear(self.activation(hidden), self.down[number])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "balance_loss": None}  # belongs to a pass, and cannot be copied


def balance_loss(network: nn.Module) -> Tensor | None:
    """The mean load-balancing loss of a network's mixtures of experts, [], from its last pass.

    None if it has no such part, or has not been run in training.
    """
    experts = [m for m in network.modules() if isinstance(m, MixtureOfExperts)]
    losses = [m.balance_loss for m in experts if m.balance_loss is not None]
    return torch.stack(losses).mean() if losses else None


def _balance(probability: Tensor, expert: Tensor) -> Tensor:
    """X sum_e f_e P_e, for probabilities [N, X] and chosen experts [N, top_k]."""
    count = probability.shape[1]
    chosen = torch.bincount(expert.flatten(), minlength=count) / max(expert.numel(), 1)
    return count * (chosen * probability.sum(0)).sum() / max(len(probability), 1)
