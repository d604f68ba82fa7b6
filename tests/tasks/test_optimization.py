import pytest
import torch
from torch import nn

from graphformer.tasks.optimization import (
    follow_lr,
    lr_factor,
    make_optimizer,
    weight_decay_groups,
)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.norm = nn.LayerNorm(5)
        self.linear = nn.Linear(5, 3)
        self.output = nn.Linear(5, 7, bias=False)
        self.output.weight = self.embedding.weight
        self.frozen = nn.Linear(5, 5).requires_grad_(False)


def test_only_matrices_decay():
    network = Tied()
    decayed, spared = weight_decay_groups(network, 0.3)
    assert decayed["weight_decay"] == 0.3
    assert spared["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(network.linear.weight)}
    expected = {network.embedding.weight, *network.norm.parameters(), network.linear.bias}
    assert {id(p) for p in spared["params"]} == {id(p) for p in expected}


def test_adam_penalises_everything():
    network = nn.Linear(3, 2)
    optimizer = make_optimizer(network, "adam", lr=0.1, weight_decay=0.5, betas=(0.9, 0.99))
    assert type(optimizer) is torch.optim.Adam
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize(
    ("name", "halfway", "last"), [("constant", 1, 1), ("linear", 0.55, 0.1), ("cosine", 0.55, 0.1)]
)
def test_schedule(name: str, halfway: float, last: float):
    factor = lr_factor(name, warmup_steps=5, total_steps=25, min_lr_ratio=0.1)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factor(5) == 1.0
    assert factor(15) == pytest.approx(halfway)
    assert factor(25) == pytest.approx(last)
    assert factor(1000) == pytest.approx(last)


def test_schedules_differ_between_their_ends():
    factors = [
        lr_factor(name, warmup_steps=0, total_steps=20, min_lr_ratio=0.0)(5)
        for name in ("linear", "cosine")
    ]
    assert factors == pytest.approx([0.75, 0.5 + 0.5 * 2**-0.5])


def test_a_scheduler_follows_a_changed_rate():
    network = Tied()
    factors = dict.fromkeys(network.linear.parameters(), 0.5)
    optimizer = make_optimizer(
        network, "adamw", lr=0.2, weight_decay=0.0, betas=(0.9, 0.99), lr_factors=factors
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    before = [group["lr"] for group in optimizer.param_groups]
    follow_lr(scheduler, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == before
    follow_lr(scheduler, 0.6)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [3 * r for r in before]
    )
    optimizer.step()
    scheduler.step()
    halved = [1.5 * rate for rate in before]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(halved)
