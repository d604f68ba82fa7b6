"""Instruction tuning: one mean over the answer tokens of a step, learning, empty batches."""

from __future__ import annotations

import pytest
import torch
from helpers.tasks import Batches, trainer
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer import models
from graphformer.data import pack_tokens
from graphformer.tasks import SupervisedFineTuning


class Bias(nn.Module):
    """The same logits at every node."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, batch: Data, adjacency: object) -> Tensor:
        return self.logits.expand(len(batch.x), -1)


def batch_of(labels: list[int]) -> Data:
    batch = pack_tokens([[0] * len(labels)])
    batch.y = torch.tensor(labels)
    return batch


def test_one_mean_over_the_answer_tokens_of_all_micro_batches() -> None:
    # losses of 2 and 1 nats, with 1 and 9 answer tokens: (2 + 9) / 10
    logits = torch.tensor([-2.0, -1.0, 0.0], dtype=torch.float64)
    logits[2] = (1 - logits[:2].exp().sum()).log()
    one, nine = [0, -100, -100], [-100, *[1] * 9]
    gradients = []
    for batches in ([batch_of(one), batch_of(nine)], [batch_of(one + nine)]):
        task = SupervisedFineTuning(Bias(logits.clone()), lr=0.0)
        recorded = {}
        task.network.logits.register_post_accumulate_grad_hook(lambda p: None)
        original = task.on_before_optimizer_step

        def record(optimizer, task=task, original=original, recorded=recorded) -> None:
            original(optimizer)
            recorded["gradient"] = task.network.logits.grad.clone()

        task.on_before_optimizer_step = record
        trainer(accumulate_grad_batches=len(batches), max_epochs=1).fit(task, Batches(batches))
        gradients.append(recorded["gradient"])
    torch.testing.assert_close(*gradients)
    (result,) = trainer().validate(
        SupervisedFineTuning(Bias(logits)), Batches([batch_of(one), batch_of(nine)]), verbose=False
    )
    assert result["val/loss"] == pytest.approx(1.1)
    assert result["val/perplexity"] == pytest.approx(torch.tensor(1.1).exp().item())
    assert result["val/accuracy"] == pytest.approx(0.9 if logits.argmax() == 1 else 0.0)


def test_a_batch_without_answers_is_an_error() -> None:
    task = SupervisedFineTuning(Bias(torch.zeros(3)))
    with pytest.raises(ValueError, match="batch.y: got no label, expected answer tokens"):
        task.training_step(batch_of([-100, -100]), 0)


def test_the_answer_is_learned_and_the_prompt_is_not() -> None:
    torch.manual_seed(0)
    network = models.language_model(11, dim=16, depth=1, num_heads=2, max_length=7)
    batch = pack_tokens([[1, 2, 3, 4, 5], [6, 2, 7, 8]])
    batch.y = torch.tensor([-100, -100, 4, 5, 9, -100, -100, 8, 9])
    task = SupervisedFineTuning(network, lr=1e-2)
    trainer(max_epochs=60).fit(task, Batches([batch]))
    (result,) = trainer().validate(task, Batches([batch]), verbose=False)
    assert result["val/accuracy"] == 1.0
    with torch.no_grad():
        assert task(batch).argmax(-1)[0] != 2  # the prompt's next token
