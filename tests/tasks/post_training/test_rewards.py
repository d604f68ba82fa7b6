"""Rewards: exact answers, patterns, reward models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.preferences import PAIRS, VOCAB, pair_batch
from helpers.tasks import Batches, trainer

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.patterns import Causal
from graphformer.tasks import RewardModeling
from graphformer.tasks.post_training.reward_values import compute_rewards
from graphformer.tasks.post_training.rewards import (
    Completion,
    ExactAnswer,
    LearnedReward,
    RegularExpression,
    SentimentLexicon,
)


def completion(answer: str, reference: str = "", ids: tuple[int, ...] = (1, 2)) -> Completion:
    return Completion("q", answer, reference, list(ids), 1, True)


def test_exact_answers() -> None:
    answers = [completion("42", "42"), completion("It is -42.", "42"), completion("", "42")]
    assert ExactAnswer()(answers) == [1, 0, 0]
    number = ExactAnswer(r"(-?\d+)")
    assert number([completion("7 and 42.", "#### 42"), *answers]) == [1, 1, 0, 0]


def test_exact_answers_need_a_pattern_and_references() -> None:
    with pytest.raises(ValueError, match="extract: got '\\('"):
        ExactAnswer("(")
    with pytest.raises(ValueError, match="reference: got an empty text"):
        ExactAnswer()([completion("42")])


def test_regular_expressions() -> None:
    reward = RegularExpression(r"^\d+$")
    assert reward([completion("12"), completion("1 2")]) == [1, 0]
    with pytest.raises(ValueError, match="pattern: got '\\('"):
        RegularExpression("(")


def test_a_sentiment_lexicon() -> None:
    pytest.importorskip("vaderSentiment")
    good, bad = SentimentLexicon()([completion("a great film"), completion("a bad film")])
    assert good > 0 > bad


def test_a_reward_model(tmp_path: Path) -> None:
    def network() -> models.Model:
        return models.reward_model(VOCAB, dim=12, depth=1, num_heads=3, max_length=11)

    fit, task = trainer(), RewardModeling(network())
    fit.fit(task, Batches([pair_batch(PAIRS)]))
    fit.save_checkpoint(tmp_path / "a.ckpt")
    rows = [(1, 2, 3), (4, 5), (6, 7, 8, 9)]
    reward = LearnedReward(network(), str(tmp_path / "a.ckpt"), batch_size=2)
    batch = pack_tokens(rows)
    expected = task.network.eval()(batch, Causal()(batch)).squeeze(1)
    found = compute_rewards(reward, [completion("", ids=row) for row in rows])
    torch.testing.assert_close(found, expected.detach())
