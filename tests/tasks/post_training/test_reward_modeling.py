"""Reward models: the loss by hand, metrics beside the length baseline, the true last token."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.preferences import PAIRS, VOCAB, pair_batch
from helpers.tasks import Batches, trainer
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.patterns import Causal
from graphformer.tasks import RewardModeling


class Given(nn.Module):
    """Rewards by sample."""

    def __init__(self, rewards: list[float]) -> None:
        super().__init__()
        self.rewards = nn.Parameter(torch.tensor(rewards).unsqueeze(1))

    def forward(self, batch: Data, adjacency: object) -> Tensor:
        return self.rewards


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_loss_and_metrics() -> None:
    batch = pair_batch(PAIRS)
    batch.margin = torch.tensor([0.5, 0.0])
    task = RewardModeling(Given([2.0, 1.0, -1.0, 1.0]), l2=0.1, centring=0.01)
    losses = [softplus(-0.5) + 0.01 * 9, softplus(2.0)]
    (result,) = trainer().validate(task, Batches([batch]), verbose=False)
    assert result["val/loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert result["val/accuracy"] == 0.5
    assert result["val/margin"] == pytest.approx(-0.5)
    assert result["val/mean_reward"] == pytest.approx(0.75)
    assert result["val/length_accuracy"] == 0.5  # answers of 3 and 1, 2 and 4 tokens
    confidence = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))]
    expected = (abs(confidence[0] - 1) + confidence[1]) / 2
    assert result["val/calibration_error"] == pytest.approx(expected, rel=1e-5)
    trained = RewardModeling(Given([2.0, 1.0, -1.0, 1.0]), l2=0.1, centring=0.01, lr=0.0)
    fit = trainer(max_epochs=1)
    fit.fit(trained, Batches([batch]))
    penalty = 0.1 * (4 + 1 + 1 + 1)
    expected = sum(losses) / 2 + penalty
    assert float(fit.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_reward_is_read_at_the_last_token_of_each_text() -> None:
    torch.manual_seed(0)
    model = models.reward_model(VOCAB, dim=12, depth=1, num_heads=3, max_length=11).eval()
    end = 2  # also the padding token, and inside of the first prompt
    rows = [[5, end, 7, end], [3, end], [4, 9, 8, 6, end]]
    batch = pack_tokens(rows)
    together = model(batch, Causal()(batch))
    for row, reward in zip(rows, together, strict=True):
        one = pack_tokens([row])
        torch.testing.assert_close(model(one, Causal()(one))[0], reward)
    nodes = model.transformer(model.embedding(batch), Causal()(batch), batch.pos)
    torch.testing.assert_close(model.head.linear(nodes[[3, 5, 10]]), together)


def test_a_preference_is_learned() -> None:
    torch.manual_seed(0)
    model = models.reward_model(VOCAB, dim=12, depth=1, num_heads=3, max_length=11)
    task, data = RewardModeling(model, lr=1e-2), Batches([pair_batch(PAIRS)])
    trainer(max_epochs=30).fit(task, data)
    (result,) = trainer().validate(task, data, verbose=False)
    assert result["val/accuracy"] == 1.0


def test_a_network_without_one_reward_for_each_text_is_refused() -> None:
    task = RewardModeling(models.language_model(VOCAB, dim=12, depth=1, num_heads=3))
    with pytest.raises(ValueError, match=r"network: got an output of shape \[16, 13\] for 4 texts"):
        task.training_step(pair_batch(PAIRS), 0)
