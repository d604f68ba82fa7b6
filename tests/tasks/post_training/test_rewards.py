"""Rewards: exact answers, patterns, reward models; rewards that fail."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.preferences import PAIRS, VOCAB, pair_batch
from helpers.tasks import Batches, trainer

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.patterns import Causal
from graphformer.tasks import RewardModeling
from graphformer.tasks.post_training.rewards import (
    Completion,
    ExactAnswer,
    LearnedReward,
    RegularExpression,
    SentimentLexicon,
    compute_rewards,
)


def completion(answer: str, reference: str = "", ids: tuple[int, ...] = (1, 2)) -> Completion:
    return Completion("q", answer, reference, list(ids), 1, True)


def test_exact_answers() -> None:
    answers = [completion("42", "42"), completion("It is -42.", "42"), completion("", "42")]
    assert ExactAnswer()(answers) == [1, 0, 0]
    number = ExactAnswer(r"(-?\d+)")
    assert number([completion("7 and 42.", "#### 42"), *answers]) == [1, 1, 0, 0]


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


def test_rewards_that_fail_are_named() -> None:
    def broken(completions):
        return [1 / 0 for _ in completions]

    with pytest.raises(ValueError, match="reward: broken raised ZeroDivisionError: division by"):
        compute_rewards(broken, [completion("a")])
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"reward: got {value} of <lambda> for the answer 'a'"):
            compute_rewards(lambda _, value=value: [value], [completion("a")])
    with pytest.raises(ValueError, match="reward: got 2 values of <lambda> for 1 answers"):
        compute_rewards(lambda _: [1.0, 2.0], [completion("a")])
