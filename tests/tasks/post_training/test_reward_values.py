"""Values of rewards: rewards that fail are named, several are summed by their weights."""

from __future__ import annotations

import math

import pytest

from graphformer.tasks.post_training.reward_values import WeightedRewards, compute_rewards
from graphformer.tasks.post_training.rewards import Completion

ANSWERS = [Completion("q", text, "", [1, 2], 1, True) for text in ("a", "bcd")]


def length(completions) -> list[int]:
    return [len(c.answer) for c in completions]


def test_rewards_that_fail_are_named() -> None:
    def broken(completions):
        return [1 / 0 for _ in completions]

    with pytest.raises(ValueError, match="reward: broken raised ZeroDivisionError: division by"):
        compute_rewards(broken, ANSWERS)
    with pytest.raises(ValueError, match="reward: <lambda> raised TypeError"):
        compute_rewards(lambda _: None, ANSWERS)
    for value in (math.nan, math.inf, 1e39):  # the last is infinite in float32
        message = f"reward: got {value} of <lambda> for the answer 'bcd'".replace("+", r"\+")
        with pytest.raises(ValueError, match=message):
            compute_rewards(lambda _, value=value: [0.0, value], ANSWERS)
    with pytest.raises(ValueError, match="reward: got 3 values of <lambda> for 2 answers"):
        compute_rewards(lambda _: [1.0, 2.0, 3.0], ANSWERS)


def test_sums_by_weights() -> None:
    assert WeightedRewards(length)(ANSWERS).tolist() == [1, 3]
    assert WeightedRewards([length, length], [0.5, -2.0])(ANSWERS).tolist() == [-1.5, -4.5]


@pytest.mark.parametrize(
    ("rewards", "weights", "message"),
    [
        ([], None, "reward: got none, expected one or more"),
        (length, [], "reward_weights: got 0 for 1 rewards"),
        ([length, length], [1.0], "reward_weights: got 1 for 2 rewards"),
        (length, [math.nan], "reward_weights: got nan, expected finite numbers"),
    ],
)
def test_wrong_weights(rewards, weights, message) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedRewards(rewards, weights)
