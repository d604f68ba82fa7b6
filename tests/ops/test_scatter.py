"""The scatter backend, with torch-scatter and without, against the reference: all functions."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from helpers.awkward import AWKWARD
from helpers.cpu_cases import (
    FUNCTIONS,
    OPTIONS,
    attention_options,
    function_options,
    inputs,
    results,
)

from graphformer.ops import reference, scatter

HAS_TORCH_SCATTER = importlib.util.find_spec("torch_scatter") is not None
NAMES = ["random", "duplicates", "isolated", "bipartite", "hub", "window", "no-edges", "int32"]


@pytest.fixture(params=["torch", "torch-scatter"])
def reductions(request, monkeypatch):
    if request.param == "torch-scatter" and not HAS_TORCH_SCATTER:
        pytest.skip("torch-scatter is not installed")
    monkeypatch.setattr(scatter, "_TORCH_SCATTER", request.param == "torch-scatter")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_the_references(name, function, options, reductions):
    adjacency = AWKWARD[name]()
    tensors = [x.double() for x in inputs(function, adjacency)]
    every = function_options(function, adjacency) | attention_options(adjacency, OPTIONS[options])
    every = {
        name: x.double() if isinstance(x, torch.Tensor) and name != "seed" else x
        for name, x in every.items()
    }
    got = results(scatter, function, tensors, adjacency, **every)
    expected = results(reference, function, tensors, adjacency, **every)
    for part, expected_part in zip(got, expected, strict=True):
        for a, b in zip(part, expected_part, strict=True):
            torch.testing.assert_close(a, b)


def test_reductions(reductions):
    csr = AWKWARD["isolated"]().to_csr()
    x = torch.arange(csr.num_edges * 2.0).view(-1, 2) + 1
    total, largest = scatter._reduce(x, csr, "sum"), scatter._reduce(x, csr, "max")
    for i in range(csr.shape[0]):
        rows = x[csr.target == i]
        torch.testing.assert_close(total[i], rows.sum(0))
        assert torch.equal(largest[i], rows.amax(0) if len(rows) else torch.zeros(2))
    assert torch.equal(scatter._per_slot(total, csr), total[csr.target])
