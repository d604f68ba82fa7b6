"""Prompts with the answers of the next pair."""

from __future__ import annotations

import pytest
import torch
from helpers.preferences import PAIRS, pair_batch

from graphformer.tasks.post_training.mismatched import rotate_answers


def test_answers_move_to_the_next_pair() -> None:
    rotated = rotate_answers(pair_batch(PAIRS))
    answers = [answer for _, answer in PAIRS[2:] + PAIRS[:2]]
    expected = pair_batch([(p, a) for (p, _), a in zip(PAIRS, answers, strict=True)])
    assert rotated.lengths == expected.lengths
    assert torch.equal(rotated.x, expected.x)
    assert torch.equal(rotated.y, expected.y)
    with pytest.raises(ValueError, match="batch: got 1 pair, expected 2 or more for KTO"):
        rotate_answers(pair_batch(PAIRS[:2]))
