"""The section on consistency finds outputs that depend on chance, or on the rest of the batch."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import Identity, given_run, random_split
from torch import nn

from graphformer.patterns import SelfLoops
from graphformer.tasks import Classification, LinkPrediction, Regression
from graphformer.trust.sections import consistency_section


class Noisy(nn.Module):
    def forward(self, batch, adjacency):
        return batch.x + torch.rand_like(batch.x)


class MinusMean(nn.Module):
    """Reads the other samples of the batch, in an order that does not matter."""

    def forward(self, batch, adjacency):
        return batch.x - batch.x.sort(0).values.mean(0)


def equal_bits(network: nn.Module) -> dict[str, str]:
    run = given_run({"test": random_split(19, 3, 0)})
    run.task.network = network
    return {row[0]: row[3] for row in consistency_section(run).tables[0].rows}


def test_a_function_of_each_sample_is_consistent():
    found = equal_bits(Identity())
    assert set(found.values()) == {"yes"}
    assert {"computed again", "on 1 thread", "batch in reverse order", "each sample alone"} <= set(
        found
    )


def test_chance_is_found():
    assert set(equal_bits(Noisy()).values()) == {"no"}


def test_dependence_on_other_samples_is_found():
    found = equal_bits(MinusMean())
    assert found["computed again"] == found["batch in reverse order"] == "yes"
    assert found["each sample alone"] == "no"


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    equal_bits(Identity())
    assert torch.get_num_threads() == before


class Constant(nn.Module):
    """The same output for each sample."""

    def __init__(self, *output: float) -> None:
        super().__init__()
        self.output = torch.tensor(output)

    def forward(self, batch, adjacency):
        return self.output.expand(len(batch.x), -1)


def test_classes_of_several_runs_by_hand():
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    run = given_run({"test": (torch.eye(3)[torch.tensor([0, 0, 0, 1, 1, 1])], y)})
    run.others = {
        f"always {k}": Classification(Constant(*torch.eye(3)[k]), SelfLoops(), num_classes=3)
        for k in (0, 1)
    }
    metrics = consistency_section(run).metrics
    # accuracies 5/6, 3/6, 2/6; pairs agree on 3/6, 3/6 and 0 samples
    assert metrics["accuracy, mean over runs"] == pytest.approx(10 / 18)
    assert metrics["accuracy, sample deviation over runs"] == pytest.approx((7 / 108) ** 0.5)
    assert metrics["agreement of two runs, mean"] == pytest.approx(1 / 3)
    assert metrics["agreement of two runs, lowest"] == 0
    assert metrics["same answer of all runs"] == 0
    table = consistency_section(run).tables[-1]
    assert [row[2] for row in table.rows] == pytest.approx([1, 0.5, 0.5])


def test_numbers_of_several_runs_by_hand():
    run = given_run({"test": (torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))})
    run.others = {"one": Regression(Constant(1.0), SelfLoops())}
    metrics = consistency_section(run).metrics
    assert metrics["mean absolute error, highest of the runs"] == 1
    assert metrics["mean absolute error, lowest of the runs"] == 0
    # deviations of (1, 1) and (3, 1)
    assert metrics["deviation of predictions over runs"] == pytest.approx(2**0.5 / 2)


def test_what_is_left_out_is_said():
    run = given_run({"test": random_split(19, 3, 0)})
    assert "pass --runs RUN RUN" in consistency_section(run).notes[-1]
    run.others = {"other": run.task}
    run.task = LinkPrediction(Identity(), SelfLoops())
    run.task.predict_step = lambda batch, index: batch.x[:, 0]  # a score for each pair
    section = consistency_section(run)
    assert {row[4] for row in section.tables[0].rows} == {"numbers"}
    assert "this run is a LinkPrediction" in section.notes[-1]
