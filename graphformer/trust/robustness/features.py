"""Random and adversarial changes of the features of nodes, within a distance by node."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def perturb_features(x: Tensor, *, radius: float, generator: torch.Generator) -> Tensor:
    """Return features with Gaussian noise, whose norm is the radius at each node.

    Args:
        x: features, [N, F].
        radius: Euclidean distance of a node's features.
        generator: of the noise.
    """
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + radius * F.normalize(noise, dim=1)


def attack_features(
    loss: Callable[[Tensor], Tensor], x: Tensor, *, radius: float, steps: int = 20
) -> Tensor:
    """Return features within a distance of the given ones that increase a loss.

    Each step has the length 2.5 * radius / steps at every node, along the gradient of its features;
    then each node is projected to its ball. Of all steps the features with the largest loss are
    returned, those given among them. Nodes without a gradient keep their features.

    Args:
        loss: from features [N, F] to a number, a sum over the attacked nodes.
        x: features, [N, F].
        radius: Euclidean distance by which the features of a node change at most.
        steps: number of steps.

    Source: Madry et al., 2018, https://arxiv.org/abs/1706.06083, with Euclidean distances.
    """
    best, highest = x, -torch.inf
    moved = x
    for step in range(steps + 1):
        moved = moved.detach().requires_grad_(True)
        value = loss(moved)
        if value.item() > highest:
            best, highest = moved.detach(), value.item()
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(value, moved)
        change = moved.detach() + 2.5 * radius / steps * F.normalize(gradient, dim=1) - x
        length = change.norm(dim=1, keepdim=True)
        moved = x + change * (radius / length.clamp(min=radius)) if radius else x
    return best
