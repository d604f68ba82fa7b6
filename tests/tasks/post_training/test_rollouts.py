"""Rollouts: labels, sums by answer, last tokens, states for checkpoints."""

from __future__ import annotations

import io

import torch

from graphformer.tasks.post_training.rollouts import Rollouts, new_rollouts, pack_answers

ROWS, PROMPTS = [[1, 2, 3, 4], [5, 6], [7, 8, 9, 1, 2]], [2, 1, 2]


def made() -> Rollouts:
    batch = pack_answers(ROWS, PROMPTS)
    log_p = torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0])
    return new_rollouts(batch, torch.tensor([1.0, 2.0, 3.0]), log_p, log_p - 1)


def test_labels_are_the_tokens_after_the_prompt() -> None:
    rollouts = made()
    assert rollouts.batch.lengths == (3, 1, 4)
    assert rollouts.batch.y.tolist() == [-100, 3, 4, 6, -100, 9, 1, 2]
    assert rollouts.lengths == (2, 1, 3)
    assert rollouts.sample.tolist() == [0, 0, 1, 2, 2, 2]
    assert rollouts.last_tokens().tolist() == [1, 2, 5]
    assert rollouts.sum(rollouts.log_p).tolist() == [-3, -3, -15]
    assert rollouts.mean(rollouts.log_p).tolist() == [-1.5, -3, -5]
    assert rollouts.per_token(rollouts.rewards).tolist() == [1, 1, 2, 3, 3, 3]


def test_the_state_is_plain_and_complete() -> None:
    rollouts, file = made(), io.BytesIO()
    torch.save(rollouts.state_dict(), file)
    file.seek(0)
    restored = Rollouts.from_state_dict(torch.load(file, weights_only=True), torch.device("cpu"))
    assert list(restored.batch.lengths) == list(rollouts.batch.lengths)
    assert torch.equal(restored.batch.y, rollouts.batch.y)
    assert torch.equal(restored.reference, rollouts.reference)
    assert restored.lengths == rollouts.lengths
