"""Which nodes of a sample a prediction rests on: gradients at the embedding, and fidelity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Score = Callable[[Tensor], Tensor]
"""From the embedded nodes of a batch, [N, C], to the explained probability of each sample, [B]."""


@contextmanager
def replaced_output(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Make a module return the given output within a `with` block."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def gradient_times_input(score: Score, x: Tensor) -> Tensor:
    """Return the attribution of each node, sum_c x_c d score / d x_c, [N] of x [N, C]."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(x).sum(), x)
    return (gradient * x).sum(1).detach()


def integrated_gradients(score: Score, x: Tensor, *, steps: int = 16) -> Tensor:
    """Return the attribution of each node along the line from zero to x, [N] of x [N, C].

    The attributions of a sample add up to score(x) - score(0), but for the error of the midpoint
    rule with `steps` points.

    Source: Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365.
    """
    total = torch.zeros_like(x)
    for step in range(steps):
        point = (x.detach() * ((step + 0.5) / steps)).requires_grad_(True)
        total += torch.autograd.grad(score(point).sum(), point)[0]
    return (total / steps * x).sum(1).detach()


def top_nodes(attribution: Tensor, lengths: Sequence[int], share: float) -> Tensor:
    """Return which nodes have the highest attribution of their sample, bool [N].

    Args:
        attribution: [N].
        lengths: number of nodes of each sample.
        share: of the nodes of each sample; at least one node.
    """
    parts = []
    for part in attribution.split(list(lengths)):
        chosen = torch.zeros(len(part), dtype=torch.bool)
        if len(part):
            chosen[part.topk(max(round(share * len(part)), 1)).indices] = True
        parts.append(chosen)
    return torch.cat(parts)


@torch.no_grad()
def fidelity(score: Score, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fall of each sample's score without the chosen nodes, and with them only, [B].

    Nodes are removed by a zero embedding. A good explanation has a large fall without its nodes
    (fidelity plus) and a small one with its nodes only (fidelity minus).

    Args:
        score: the explained function.
        x: embedded nodes, [N, C].
        chosen: the nodes of the explanation, bool [N].

    Source: Yuan et al., 2022, https://arxiv.org/abs/2012.15445.
    """
    full = score(x)
    keep = chosen[:, None]
    return full - score(x * ~keep), full - score(x * keep)
