"""Values of rewards and other functions of the user: checked, and summed by their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from graphformer.tasks.post_training.rewards import Completion, Reward

_T = TypeVar("_T")


def compute_rewards(reward: Reward, completions: Sequence[Completion]) -> Tensor:
    """Return the rewards of answers, [B].

    Raises:
        ValueError: see `call_on_answers`.
    """
    return call_on_answers(reward, completions, [c.answer for c in completions], "reward")


def call_on_answers(
    function: Callable[[Sequence[_T]], Sequence[float]],
    items: Sequence[_T],
    answers: Sequence[str],
    argument: str,
) -> Tensor:
    """Return what a function of the user computes for each answer, [B].

    Args:
        function: of the user.
        items: of the answers, which the function takes.
        answers: their texts, for messages.
        argument: that names the function, for messages.

    Raises:
        ValueError: when the function raises, returns another number of values, or values that are
            not finite.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        values = [float(value) for value in function(items)]
    except Exception as error:  # of the user's code
        raise ValueError(
            f"{argument}: {name} raised {type(error).__name__}: {error}, expected a number for "
            f"each of {len(items)} answers; correct it"
        ) from error
    if len(values) != len(items):
        raise ValueError(
            f"{argument}: got {len(values)} values of {name} for {len(items)} answers, expected "
            "one for each; correct it"
        )
    found = torch.tensor(values)  # in float32, where 1e39 is infinite
    for value, is_finite, answer in zip(values, found.isfinite().tolist(), answers, strict=True):
        if not is_finite:
            raise ValueError(
                f"{argument}: got {value} of {name} for the answer {answer!r}, expected a finite "
                "number in float32; correct it"
            )
    return found


class WeightedRewards:
    """The sum of several rewards by their weights.

    Args:
        rewards: one or several.
        weights: as many; None: 1 each.

    Raises:
        ValueError: when there is no reward, or not one finite weight for each.
    """

    def __init__(
        self, rewards: Sequence[Reward] | Reward, weights: Sequence[float] | None = None
    ) -> None:
        self.rewards = rewards if isinstance(rewards, Sequence) else [rewards]
        self.weights = [1.0] * len(self.rewards) if weights is None else weights
        if not self.rewards:
            raise ValueError("reward: got none, expected one or more")
        if len(self.rewards) != len(self.weights):
            raise ValueError(
                f"reward_weights: got {len(self.weights)} for {len(self.rewards)} rewards, "
                "expected one for each"
            )
        for weight in self.weights:
            if not math.isfinite(weight):
                raise ValueError(f"reward_weights: got {weight}, expected finite numbers")

    def __call__(self, completions: Sequence[Completion]) -> Tensor:
        """Return the sum for each answer, [B].

        Raises:
            ValueError: see `compute_rewards`.
        """
        pairs = zip(self.rewards, self.weights, strict=True)
        return torch.stack([w * compute_rewards(r, completions) for r, w in pairs]).sum(0)
