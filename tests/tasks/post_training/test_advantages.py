"""Advantages against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from graphformer.tasks.post_training.advantages import (
    centre,
    generalised_advantages,
    leave_one_out,
    normalise,
)

REWARDS = tensor([1.0, 0.0, 0.0, 0.0])


def test_within_groups() -> None:
    assert leave_one_out(REWARDS, 4).tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert normalise(REWARDS, 4).tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-5)
    assert centre(REWARDS, 4).tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])
    two = tensor([3.0, 5.0, 2.0, 2.0])
    assert centre(two, 2).tolist() == [-1, 1, 0, 0]
    assert leave_one_out(two, 2).tolist() == [-2, 2, 0, 0]


@pytest.mark.parametrize("function", [leave_one_out, normalise, centre])
def test_equal_rewards_give_exactly_zero(function) -> None:
    assert function(tensor([0.1, 0.1, 0.1, 0.7, 0.7, 0.7]), 3).tolist() == [0.0] * 6
    with pytest.raises(ValueError, match="group_size: got 1 for 3 answers"):
        function(torch.ones(3), 1)
    with pytest.raises(ValueError, match="group_size: got 2 for 3 answers"):
        function(torch.ones(3), 2)


def test_generalised_advantages() -> None:
    # two answers, end to end, of 4 and 4 tokens, with different values
    rewards = tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    values = tensor([0.0, 0, 0, 0, 0, 0, 0, 1])
    advantages, returns = generalised_advantages(rewards, values, (4, 4), gamma=0.9, lam=0.95)
    expected = [0.625026, 0.731025, 0.855, 1.0, 0.65795, 0.7695, 0.9, 1.0]
    assert returns.tolist() == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(advantages, returns - values)


def test_answers_do_not_influence_one_another() -> None:
    rewards, values = torch.rand(7), torch.rand(7)
    both, _ = generalised_advantages(rewards, values, (3, 0, 4))
    first, _ = generalised_advantages(rewards[:3], values[:3], (3,))
    second, _ = generalised_advantages(rewards[3:], values[3:], (4,))
    assert torch.equal(both, torch.cat([first, second]))
