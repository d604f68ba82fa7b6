"""A mixture of experts: feed-forward nets of which each node uses the top few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupedRouter(nn.Module):
    """The router of DeepSeek: scores by softmax or sigmoid, and experts of the best groups only.

    Args:
        dim: width C.
        num_experts: number of experts X.
        top_k: number of experts per node.
        scoring: of the logits.
        num_groups: number of groups of consecutive experts, a divisor of X.
        top_groups: number of groups per node that experts are chosen from.
        group_scores: number of a group's best scores that are summed to score it.
        normalize: whether the weights of a node are divided by their sum.
        scale: factor of the weights.
        correction: whether a number per expert is added to the scores in the choice, but not to the
            weights. It has no gradient: the recipe of DeepSeek-V3 raises it for experts with few
            nodes and lowers it for others after each step.

    Raises:
        ValueError: when `num_groups` does not divide the number of experts, or `top_groups` have
            fewer than `top_k` experts.

    Source: DeepSeek-AI, 2024 (DeepSeek-V2), section 2.1.2; DeepSeek-V3, section 2.1.2.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        top_k: int,
        *,
        scoring: Literal["softmax", "sigmoid"] = "softmax",
        num_groups: int = 1,
        top_groups: int = 1,
        group_scores: int = 1,
        normalize: bool = False,
        scale: float = 1.0,
        correction: bool = False,
    ) -> None:
        super().__init__()
        if num_experts % num_groups:
            raise ValueError(
                f"num_groups: got {num_groups}, expected a divisor of num_experts {num_experts}"
            )
        if not top_k <= top_groups * (num_experts // num_groups) <= num_experts:
            raise ValueError(
                f"top_groups: got {top_groups}, expected from 1 to num_groups {num_groups} with at "
                f"least top_k {top_k} experts"
            )
        self.top_k, self.scoring, self.normalize, self.scale = top_k, scoring, normalize, scale
        self.num_groups, self.top_groups = num_groups, top_groups
        self.group_scores = group_scores
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        self.correction: nn.Parameter | None = None
        if correction:
            self.correction = nn.Parameter(torch.zeros(num_experts), requires_grad=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as `nn.Linear` does; the correction is zero."""
        bound = self.weight.shape[-1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.correction is not None:
            nn.init.zeros_(self.correction)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores [N, X] that sum to 1, and weights and numbers of experts [N, top_k]."""
        logits = F.linear(x.float(), self.weight.float())
        score = logits.softmax(-1) if self.scoring == "softmax" else logits.sigmoid()
        choice = score if self.correction is None else score + self.correction
        grouped = choice.detach().unflatten(-1, (self.num_groups, -1))
        if self.top_groups < self.num_groups:
            best = grouped.topk(self.group_scores, dim=-1).values.sum(-1)
            chosen = best.topk(self.top_groups, dim=-1).indices
            outside = torch.ones_like(best, dtype=torch.bool).scatter(1, chosen, False)
            grouped = grouped.masked_fill(outside.unsqueeze(-1), -torch.inf)
        expert = grouped.flatten(1).topk(self.top_k, dim=-1).indices
        weight = score.gather(1, expert)
        if self.normalize:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        return score / score.sum(-1, keepdim=True), weight * self.scale, expert


class MixtureOfExperts(nn.Module):
    """A mixture of feed-forward nets, x [N, C] -> [N, C]: each node is routed to `top_k` of them.

    The router gives each node a probability for each expert; the outputs of the `top_k` most
    probable experts are weighted by these, divided by their sum if there are several. Nodes are
    grouped by expert, so the cost is that of `top_k` experts per node for any number of experts. No
    node is dropped.

    After a forward pass in training, `balance_loss` is X sum_e f_e P_e for X experts: f_e is the
    fraction of choices of expert e and P_e its mean probability; 1 for uniform routing. Tasks add a
    multiple of `balance_loss(network)` to the loss.

    Args:
        dim: width C.
        hidden_dim: hidden width of each expert; 4 C by default, 8 C / 3 if gated.
        num_experts: number of routed experts X.
        top_k: number of routed experts per node.
        num_shared: number of further experts that all nodes use.
        gated: whether experts are gated, as in `GatedFeedForward`.
        activation: the nonlinearity of the experts; GELU by default, SiLU if gated.
        router: chooses the experts, such as `GroupedRouter`; a linear map by default.
        normalize: whether the weights of a node are divided by their sum, with a linear map as
            router; by default if there are several. That of a single expert would be 1 and have no
            gradient, so that the router would learn from the balance loss only.

    Raises:
        ValueError: when `top_k` is not between 1 and `num_experts`.

    Source: Shazeer et al., 2017; one expert and balance: Fedus et al., 2022 (Switch), sections 2.1
    and 2.2; shared
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
        router: GroupedRouter | None = None,
        normalize: bool | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(
                f"top_k: got {top_k}, expected a number from 1 to num_experts {num_experts}"
            )
        hidden_dim = (8 * dim // 3 if gated else 4 * dim) if hidden_dim is None else hidden_dim
        self.top_k, self.num_shared, self.gated = top_k, num_shared, gated
        self.activation = (activation or (nn.SiLU if gated else nn.GELU))()
        self.num_experts = num_experts
        self.normalize = top_k > 1 if normalize is None else normalize
        self.router = nn.Linear(dim, num_experts, bias=False) if router is None else router
        total, width = num_experts + num_shared, 2 * hidden_dim if gated else hidden_dim
        self.up = nn.Parameter(torch.empty(total, width, dim))
        self.down = nn.Parameter(torch.empty(total, dim, hidden_dim))
        self.balance_loss: Tensor | None = None
        self.routing: tuple[Tensor, Tensor] | None = None
        """Of the last pass in training: choices of each expert and number of nodes, [X + 1]; sum of
        each expert's probabilities, [X]."""
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of the experts as `nn.Linear` does."""
        for weight in (self.up, self.down):
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sum of the experts' outputs, [N, C] of x [N, C]."""
        probability, weight, expert = self._route(x)
        weight = weight.to(x.dtype)
        if self.training:
            self.balance_loss = _balance(probability, expert)
            self.routing = _routing(probability, expert)
        num_experts = self.num_experts
        # Sort the N * top_k choices by expert, so that the nodes of an expert are consecutive.
        order = expert.flatten().argsort(stable=True)
        sizes = torch.bincount(expert.flatten(), minlength=num_experts).tolist()
        node = order // self.top_k
        outputs = [
            self._expert(number, part)
            for number, part in enumerate(x[node].split(sizes))
            if len(part)
        ]
        mixed = torch.cat(outputs) if outputs else x[node]
        # Weight the outputs and add those of each node.
        mixed = mixed * weight.flatten()[order].unsqueeze(-1)
        out = torch.zeros_like(x, dtype=mixed.dtype).index_add(0, node, mixed)
        for number in range(num_experts, num_experts + self.num_shared):
            out = out + self._expert(number, x)
        return out

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities [N, X], and weights and numbers of the chosen experts [N, top_k]."""
        if isinstance(self.router, GroupedRouter):
            return self.router(x)
        probability = self.router(x).float().softmax(-1)
        weight, expert = probability.topk(self.top_k, dim=-1)
        weight = weight / weight.sum(-1, keepdim=True) if self.normalize else weight
        return probability, weight, expert

    def _expert(self, number: int, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.up[number])
        if self.gated:
            gate, up = hidden.chunk(2, dim=-1)
            return F.linear(self.activation(gate) * up, self.down[number])
        return F.linear(self.activation(hidden), self.down[number])

    def __getstate__(self) -> dict[str, Any]:
        # The loss is part of a graph, which can be neither copied nor pickled.
        return {**self.__dict__, "balance_loss": None, "routing": None}


def balance_loss(network: nn.Module) -> Tensor | None:
    """Return the mean load-balancing loss, [], of a network's mixtures of experts.

    None if it has none of them, or none that has run in training.
    """
    experts = [m for m in network.modules() if isinstance(m, MixtureOfExperts)]
    losses = [m.balance_loss for m in experts if m.balance_loss is not None]
    return torch.stack(losses).mean() if losses else None


def balance_loss_share(network: nn.Module, reduce: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Return this rank's share of the load-balancing loss of the nodes of all ranks, [].

    The shares of all ranks add up to that loss, and their gradients to its gradient.

    Args:
        network: with mixtures of experts; None is returned as by `balance_loss`.
        reduce: sums a tensor over the ranks, without gradients.
    """
    experts = [m for m in network.modules() if isinstance(m, MixtureOfExperts)]
    shares = []
    for counts, probability in (m.routing for m in experts if m.routing is not None):
        *choices, nodes = reduce(counts)
        chosen = torch.stack(choices)
        fraction = chosen / chosen.sum().clamp(min=1)
        shares.append(len(choices) * (fraction * probability).sum() / nodes.clamp(min=1))
    return torch.stack(shares).mean() if shares else None


def _routing(probability: Tensor, expert: Tensor) -> tuple[Tensor, Tensor]:
    """Return choices of each expert and number of nodes, [X + 1], and sums of probabilities [X]."""
    choices = torch.bincount(expert.flatten(), minlength=probability.shape[1])
    counts = torch.cat([choices, choices.new_tensor([len(probability)])])
    return counts.to(probability.dtype), probability.sum(0)


def _balance(probability: Tensor, expert: Tensor) -> Tensor:
    """Return X sum_e f_e P_e of probabilities [N, X] and chosen experts [N, top_k]."""
    num_experts = probability.shape[1]
    fraction = torch.bincount(expert.flatten(), minlength=num_experts) / max(expert.numel(), 1)
    return num_experts * (fraction * probability.sum(0)).sum() / max(len(probability), 1)
