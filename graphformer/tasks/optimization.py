"""Optimisers, of torch and other libraries, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OptimizerName = Literal["adamw", "adam", "adamw_8bit", "adamw_offload"]
IN_TORCH: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: matrices with decay; biases, norms and embeddings without.

    A parameter that several modules share is an embedding if one of them is an embedding.
    """
    matrices: dict[Tensor, None] = {}
    others: dict[Tensor, None] = {}
    for module, parameter in _trained_parameters(network):
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
    lr_factors: Mapping[Tensor, float] | None = None,
    fused: bool = True,
) -> Optimizer:
    """Return AdamW with decay of matrices, or Adam with an L2 penalty on all parameters.

    The penalty on all parameters is that of older recipes, such as GAT's. "adamw_8bit" and
    "adamw_offload" are optimisers of other libraries, see `optimizer_class`.

    Args:
        network: has the parameters.
        name: "adamw", "adam", "adamw_8bit" or "adamw_offload".
        lr: learning rate.
        weight_decay: decay, or weight of the penalty.
        betas: decay rates of the first and second moment.
        lr_factors: factor on the learning rate by parameter; 1 for parameters that are absent.
        fused: whether to use torch's fused kernels.

    Raises:
        ValueError: when the name is unknown, or parameters on a CPU would be offloaded.
        ModuleNotFoundError: when the library of the optimiser is missing.

    Source: Loshchilov and Hutter, 2019 (AdamW).
    """
    build = optimizer_class(name)
    if name == "adam":
        trained = [p for p in network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trained, "weight_decay": weight_decay}]
    else:
        groups = [group for group in weight_decay_groups(network, weight_decay) if group["params"]]
    if lr_factors is not None:
        groups = [part for group in groups for part in _split_by_lr(group, lr_factors, lr)]
    options: dict[str, Any] = {"fused": fused or None} if name in IN_TORCH else {}
    return build(groups, lr=lr, betas=betas, **options)


def lr_factor(
    name: str, *, warmup_steps: int, total_steps: float, min_lr_ratio: float
) -> Callable[[int], float]:
    """Return the factor on the learning rate by step: linear warm-up, then the schedule.

    After the last step the factor stays at `min_lr_ratio`.

    Args:
        name: "constant", "linear" or "cosine".
        warmup_steps: number of warm-up steps.
        total_steps: number of all steps.
        min_lr_ratio: factor at the last step.
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


def follow_lr(scheduler: LambdaLR, lr: float) -> None:
    """Scale the rates of a scheduler to a highest rate that was changed after it was created.

    Lightning's learning-rate finder writes the rate that it finds into the task and into the
    parameter groups, where the scheduler would replace it by its own at the next step.

    Args:
        scheduler: before its first step.
        lr: the highest learning rate.
    """
    optimizer = scheduler.optimizer
    created_with = optimizer.defaults["lr"]
    if lr == created_with:
        return
    optimizer.defaults["lr"] = lr
    scheduler.base_lrs = [base * lr / created_with for base in scheduler.base_lrs]
    groups = zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["initial_lr"], group["lr"] = base, base * factor(scheduler.last_epoch)


def _split_by_lr(
    group: dict[str, Any], lr_factors: Mapping[Tensor, float], lr: float
) -> list[dict[str, Any]]:
    """Split a group into one for each learning rate."""
    parts: dict[float, list[Tensor]] = {}
    for parameter in group["params"]:
        parts.setdefault(lr_factors.get(parameter, 1.0), []).append(parameter)
    return [{**group, "params": params, "lr": lr * factor} for factor, params in parts.items()]


def _trained_parameters(network: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                yield module, parameter


def optimizer_class(name: str) -> Callable[..., Optimizer]:
    """Return what builds the optimiser of a name.

    The moments of "adamw_8bit" have 8 bits, by bitsandbytes or, without it, by torchao. Those of
    "adamw_offload" are in the memory of the host, where the step is computed, by torchao.

    Raises:
        ValueError: when the name is unknown.
        ModuleNotFoundError: when the library is missing.

    Source: Dettmers et al., 2022, "8-bit optimizers via block-wise quantization"; Ren et al., 2021,
    "ZeRO-Offload".
    """
    if name in IN_TORCH:
        return IN_TORCH[name]
    if name == "adamw_8bit":
        found: Callable[..., Optimizer] = _import(name, ("bitsandbytes", "torchao")).AdamW8bit
        return found
    if name == "adamw_offload":
        return partial(_offloaded, _import(name, ("torchao",)).CPUOffloadOptimizer)
    raise ValueError(
        f"optimizer: got {name!r}, expected one of {', '.join(get_args(OptimizerName))}"
    )


def _offloaded(offload: Any, groups: Any, **options: Any) -> Optimizer:
    """Return an optimiser whose state and step are on the host.

    Raises:
        ValueError: when the parameters are on the host already.
    """
    devices = {p.device.type for group in groups for p in group["params"]}
    if not devices & {"cuda", "xpu"}:
        raise ValueError(
            f"optimizer: got 'adamw_offload' and parameters on {', '.join(sorted(devices))}, "
            "expected them on a GPU; choose 'adamw'"
        )
    built: Optimizer = offload(groups, torch.optim.AdamW, fused=True, **options)
    return built


def _import(name: str, packages: tuple[str, ...]) -> Any:
    """Return the optimisers of the first package that is installed.

    Raises:
        ModuleNotFoundError: when none is.
    """
    for package in packages:
        try:
            return import_module(f"{package}.optim")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(
        f"optimizer: got {name!r}, which needs the package {' or '.join(packages)}; install it "
        "with pip install 'graphformer[optimizers]'"
    )
