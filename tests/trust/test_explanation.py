"""Attributions of a function with known ones, and the section on a small ViT."""

from __future__ import annotations

import torch
from helpers.trust import given_run
from torch import nn

from graphformer import models
from graphformer.data import Digits
from graphformer.patterns import Complete
from graphformer.tasks import Classification
from graphformer.trust import Run
from graphformer.trust.explanation import (
    fidelity,
    gradient_times_input,
    integrated_gradients,
    replaced_output,
    top_nodes,
)
from graphformer.trust.sections import explanation_section

WEIGHT = torch.tensor([1.0, -2.0, 3.0])


def score(x):
    """Samples of 2 and 3 nodes: sum over nodes of (w . x)^2."""
    squares = (x @ WEIGHT).square()
    return torch.stack([part.sum() for part in squares.split([2, 3])])


def nodes():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_attributions_of_a_square():
    x = nodes()
    squares = (x @ WEIGHT).square()
    assert torch.allclose(gradient_times_input(score, x), 2 * squares, rtol=1e-4)
    # The midpoint rule is exact for a linear gradient; the sum is score(x) - score(0).
    assert torch.allclose(integrated_gradients(score, x, steps=3), squares, rtol=1e-4)


def test_fidelity_by_hand():
    x = nodes()
    squares = (x @ WEIGHT).square()
    chosen = torch.tensor([True, False, False, True, True])
    plus, minus = fidelity(score, x, chosen)
    first, second = squares.split([2, 3])
    assert torch.allclose(plus, torch.stack([first[0], second[1] + second[2]]), rtol=1e-4)
    assert torch.allclose(minus, torch.stack([first[1], second[0]]), rtol=1e-4, atol=1e-5)


def test_the_top_nodes_are_chosen_by_sample():
    values = torch.tensor([1.0, 5.0, 9.0, 8.0, 7.0, 6.0])
    assert top_nodes(values, (2, 0, 4), 0.5).tolist() == [False, True, True, True, False, False]


def test_the_hook_is_removed():
    module = nn.Linear(2, 2)
    with replaced_output(module, torch.zeros(3)):
        assert module(torch.ones(2)).shape == (3,)
    assert module(torch.ones(2)).shape == (2,)


def test_the_section_compares_with_a_random_choice():
    data = Digits(patch_size=2, batch_size=11)
    data.setup()
    network = models.vit(10, 8, 1, 2, channels=1, patch_size=2)
    task = Classification(network, Complete(), num_classes=10).eval()
    table = explanation_section(Run(task, data)).tables[0]
    assert [row[0] for row in table.rows] == [
        "gradient times input", "integrated gradients", "random"
    ]  # fmt: skip


def test_networks_without_embedding_are_named():
    run = given_run({"test": (torch.ones(3, 2), torch.zeros(3).long())})
    assert explanation_section(run).notes[0].startswith("Not applicable: this run")
