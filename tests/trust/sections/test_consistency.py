"""The section on consistency finds outputs that depend on chance, or on the rest of the batch."""

from __future__ import annotations

import torch
from helpers.trust import Identity, given_run, random_split
from torch import nn

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
