"""Optimisers with decay where it belongs, and learning rates that change with every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups that decay matrices, and neither biases, norms nor embeddings.

    A parameter that several modules share is an embedding if any of them is one.
    """
    matrices: dict[Tensor, None] = {}
    others: dict[Tensor, None] = {}
    for module, parameter in _parameters(network):
        is_matrix = parameter.ndim >= 2 and not isinstance(module, nn.Embedding)
        (matrices if is_matrix else others)[parameter] = None
    return [
        {"params": [p for p in matrices if p not in others], "weight_decay": weight_decay},
        {"params": list(others), "weight_decay": 0.0},
    ]


def make_optimizer(
    network: nn.Module,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    rates: Mapping[Tensor, float] | None = None,
    fused: bool = True,
) -> Optimizer:
    """AdamW with decay on matrices only (Loshchilov & Hutter 2019), or Adam with L2 on everything.

    Adam's decay is the penalty of older recipes such as GAT's, which spares no parameter. The
    learning rate of a parameter in `rates` is multiplied by that.
    """
    if name == "adam":
        trained = [p for p in network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trained, "weight_decay": weight_decay}]
    else:
        groups = [group for group in weight_decay_groups(network, weight_decay) if group["params"]]
    if rates is not None:
        groups = [part for group in groups for part in _by_rate(group, rates, lr)]
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=lr, betas=betas, fused=fused or None)


def lr_factor(
    name: str, *, warmup_steps: int, total_steps: float, min_lr_ratio: float
) -> Callable[[int], float]:
    """The factor on the learning rate at a step: linear warm-up, then constant, linear or cosine.

    Past the last step the factor stays at `min_lr_ratio`.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if name == "constant":
            return 1.0
        done = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
        left = 1.0 - done if name == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return min_lr_ratio + (1.0 - min_lr_ratio) * left

    return factor


def _by_rate(
    group: dict[str, Any], rates: Mapping[Tensor, float], lr: float
) -> list[dict[str, Any]]:
    """A group in parts, each with the learning rate of its parameters."""
    parts: dict[float, list[Tensor]] = {}
    for parameter in group["params"]:
        parts.setdefault(rates.get(parameter, 1.0), []).append(parameter)
    return [{**group, "params": params, "lr": lr * rate} for rate, params in parts.items()]


def _parameters(network: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                yield module, parameter
