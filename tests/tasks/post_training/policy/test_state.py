"""The state of a policy run: order of minibatches, and what a checkpoint restores."""

from __future__ import annotations

import torch

from graphformer.tasks.post_training.policy.state import PolicyState
from graphformer.tasks.post_training.rollouts import Rollouts, new_rollouts, pack_answers


def answers(number: int) -> Rollouts:
    batch = pack_answers([[1, 2 + number, 3], [4, 5]], [1, 1])
    log_p = torch.full((3,), -1.0 - number)
    return new_rollouts(batch, torch.tensor([1.0, number]), log_p, log_p)


def test_every_epoch_has_each_minibatch_once_and_then_all_are_dropped() -> None:
    made = [answers(i) for i in range(5)]
    state = PolicyState(0.1, count=3, rollouts=list(made))
    seen = []
    for step in range(10):
        assert state.step == step
        seen.append(made.index(state.next_minibatch(seed=7, epochs=2)))
        assert bool(state.rollouts) == (step < 9)
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    assert seen[:5] != seen[5:]


def test_a_restored_state_goes_on_with_the_same_minibatches() -> None:
    state = PolicyState(0.1, baseline=0.3, count=2, rollouts=[answers(i) for i in range(3)])
    state.next_minibatch(seed=5, epochs=2)
    stored = [PolicyState(0.7).state_dict(), state.state_dict()]
    restored = PolicyState.of_checkpoint(stored, 1, 2, torch.device("cpu"))
    assert (restored.kl_weight, restored.baseline, restored.count) == (0.1, 0.3, 2)
    for _ in range(5):
        one, other = (s.next_minibatch(seed=5, epochs=2) for s in (state, restored))
        assert torch.equal(one.batch.x, other.batch.x)
        assert torch.equal(one.log_p, other.log_p)
        assert one.lengths == other.lengths
    assert not restored.rollouts


def test_answers_of_another_number_of_ranks_are_left_out() -> None:
    stored = [PolicyState(0.4, baseline=0.3, rollouts=[answers(0)]).state_dict()] * 2
    restored = PolicyState.of_checkpoint(stored, 0, 1, torch.device("cpu"))
    assert (restored.kl_weight, restored.baseline) == (0.4, 0.3)
    assert restored.rollouts == []
