"""`PolicySettings`: what `PolicyOptimization` keeps fixed during a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from graphformer.tasks.post_training.kl import Estimator

Method: TypeAlias = Literal["reinforce", "rloo", "grpo", "dr_grpo", "ppo"]
KLPlace: TypeAlias = Literal["sample", "token", "loss"]
KL_PLACE: dict[str, KLPlace] = {"grpo": "loss", "dr_grpo": "loss", "ppo": "token"}
"""Where the KL penalty is by default, for methods other than "sample"."""
_WITH_GROUPS = ("rloo", "grpo", "dr_grpo")


@dataclass(frozen=True)
class PolicySettings:
    """The arguments of `PolicyOptimization` that describe the method, checked.

    Raises:
        ValueError: when one is out of its range.
    """

    method: Method
    group_size: int
    minibatches: int
    epochs: int
    max_new_tokens: int
    temperature: float
    clip: float
    kl_place: KLPlace | None
    kl_estimator: Estimator
    kl_target: float | None
    kl_horizon: float
    kl_stop: float | None
    missing_end_penalty: float
    whiten: bool | None
    gamma: float
    lam: float
    value_weight: float
    value_clip: float
    seed: int

    def __post_init__(self) -> None:
        for name, choices in (("method", Method), ("kl_estimator", Estimator)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of "
                    f"{', '.join(get_args(choices))}"
                )
        if self.kl_place is not None and self.kl_place not in get_args(KLPlace):
            raise ValueError(
                f"kl_place: got {self.kl_place!r}, expected None or one of "
                f"{', '.join(get_args(KLPlace))}"
            )
        for name in ("group_size", "minibatches", "epochs", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 1 or more")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name}: got {value}, expected a finite number")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature: got {self.temperature}, expected a number above 0 to sample"
            )
        if self.kl_target is not None and not self.kl_target > 0:
            raise ValueError(f"kl_target: got {self.kl_target}, expected None or a number above 0")
        if self.method in _WITH_GROUPS and self.group_size < 2:
            raise ValueError(
                f"group_size: got {self.group_size}, expected 2 or more for {self.method!r}, which "
                "compares answers to the same prompt"
            )

    @property
    def ratio_clip(self) -> float | None:
        """The clip of the ratio to the old policy; None for methods without one."""
        return None if self.method in ("reinforce", "rloo") else self.clip

    @property
    def place(self) -> KLPlace:
        """Where the KL penalty is."""
        return self.kl_place or KL_PLACE.get(self.method, "sample")

    @property
    def has_white_advantages(self) -> bool:
        """Whether advantages get mean 0 and variance 1."""
        return self.method == "ppo" if self.whiten is None else self.whiten
