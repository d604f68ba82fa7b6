"""Options that every task accepts."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from graphformer.tasks.optimization import OptimizerName


class TaskOptions(TypedDict, total=False):
    """The options of `Task` that every task accepts; `Task` describes them."""

    lr: float
    weight_decay: float
    optimizer: OptimizerName
    betas: tuple[float, float]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    min_lr_ratio: float
    pretrained: str | None
    frozen_blocks: int
    frozen_embedding: bool
    layer_decay: float
    lora: dict[str, Any] | None
    compile: bool
