"""`PolicySettings`: what `PolicyOptimization` keeps fixed during a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from graphformer.tasks.post_training.kl import Estimator

Method: TypeAlias = Literal["reinforce", "rloo", "grpo", "dr_grpo", "ppo"]
KLPlace: TypeAlias = Literal["sample", "token", "loss"]
KL_PLACE: dict[str, KLPlace] = {"grpo": "loss", "dr_grpo": "loss", "ppo": "token"}
"""Where the KL penalty is by default; "sample" for the methods that are not listed."""
_WITH_GROUPS = ("rloo", "grpo", "dr_grpo")
_SMALLEST = math.ulp(0.0)  # the smallest number above 0
_RANGES: dict[str, tuple[float, float, str]] = {
    **dict.fromkeys(
        ("group_size", "minibatches", "epochs", "max_new_tokens"), (1, math.inf, "1 or more")
    ),
    **dict.fromkeys(("kl_weight", "value_weight", "seed"), (0, math.inf, "0 or more")),
    **dict.fromkeys(
        ("temperature", "clip", "value_clip", "kl_horizon"),
        (_SMALLEST, math.inf, "a number above 0"),
    ),
    **dict.fromkeys(("gamma", "lam"), (0, 1, "a number from 0 to 1")),
    "kl_target": (_SMALLEST, math.inf, "None or a number above 0"),
    "kl_stop": (0, math.inf, "None, 0 or more"),
}
"""The smallest and largest value of each number, and what an error says is expected."""


@dataclass(frozen=True)
class PolicySettings:
    """The arguments of `PolicyOptimization` that describe the method, checked.

    `kl_weight` is that of the start, which changes if there is a `kl_target`.

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
    kl_weight: float
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
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name}: got {value}, expected a finite number")
        for name, (smallest, largest, expected) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not smallest <= value <= largest:
                raise ValueError(f"{name}: got {value}, expected {expected}")
        if self.place == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "kl_estimator: got 'k1' for a KL in the loss, expected 'k2' or 'k3'; the mean of "
                "its gradient is zero"
            )
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
