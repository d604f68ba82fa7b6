"""Adjacencies as inputs of Fabric and of Lightning's precisions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

import graphformer as gf
from graphformer.adjacency import Adjacency

EDGES = torch.tensor([[0, 1, 4], [2, 2, 3]])
ADJACENCIES = {
    "complete": gf.complete([2, 3]),
    "window": gf.window([2, 3], 1),
    "grid": gf.grid((1, 5)),
    "csr": gf.from_edge_index(EDGES, 5),
    "union": gf.from_edge_index(EDGES, 5) | gf.causal([2, 3]),
}


class Sum(nn.Module):
    """Attention with one head over an adjacency that is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = gf.nn.MultiHeadAttention(6, 2)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        return self.attention(x, adjacency)


@pytest.mark.parametrize("name", ADJACENCIES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed", "64-true"])
def test_fabric_takes_adjacencies(name: str, precision: str):
    fabric = Fabric(accelerator="cpu", precision=precision)
    adjacency, x = ADJACENCIES[name], torch.ones(5, 6)
    model = fabric.setup(Sum())
    out = model(x, adjacency)
    assert out.shape == (5, 6)
    assert out.isfinite().all()
    moved = fabric.to_device({"x": x, "adjacency": adjacency})["adjacency"]
    assert torch.equal(moved.edge_index, adjacency.edge_index)


@pytest.mark.parametrize("name", ADJACENCIES)
def test_adjacencies_stay_immutable(name: str):
    with pytest.raises(FrozenInstanceError):
        ADJACENCIES[name].parts = (gf.complete(5),) * 7
