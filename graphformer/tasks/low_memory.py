"""Optimisers of other libraries whose state takes less memory of the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args

import torch
from torch.optim import Optimizer

OptimizerName = Literal["adamw", "adam", "adamw_8bit", "adamw_offload"]
IN_TORCH: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


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
