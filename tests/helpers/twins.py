"""Compares PyG's layers with the fused ones, on edges with duplicates and self-loops."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

import graphformer as gf
from graphformer.pyg import FusedGATConv, FusedGATv2Conv, FusedTransformerConv

N, M, E, F, C, H, DE = 23, 17, 97, 7, 5, 3, 11
LAYERS = {GATConv: FusedGATConv, GATv2Conv: FusedGATv2Conv, TransformerConv: FusedTransformerConv}
LOOPS = (GATConv, GATv2Conv)


def edges(sources: int = N, targets: int = N, count: int = E) -> torch.Tensor:
    """Random edges in random order, with duplicates and, where possible, self-loops."""
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(size, (count,), generator=generator) for size in (sources, targets)]
    edge_index = torch.stack(rows)
    edge_index[:, :5] = edge_index[:, 5:10]
    edge_index[1, 11:13] = edge_index[0, 11:13] = min(sources, targets) - 2
    return edge_index


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def twins(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A model in float64 and its accelerated copy."""
    model = model.double()
    return model, gf.accelerate(copy.deepcopy(model), quiet=True)


def outputs(model: nn.Module, inputs: list[torch.Tensor], run) -> list[torch.Tensor]:
    """The outputs of `run(model, *inputs)`, and all gradients of a scalar function of them."""
    model.zero_grad()
    inputs = [x.clone().requires_grad_() for x in inputs]
    results = run(model, *inputs)
    results = list(results) if isinstance(results, tuple) else [results]
    weight = randn(*results[0].shape, seed=5)
    loss = (results[0] * weight).sum() + sum(x.square().sum() for x in results[1:])
    loss.backward()
    grads = [x.grad for x in inputs] + [p.grad for p in model.parameters()]
    return [x.detach() for x in results] + [g for g in grads if g is not None]


def assert_same(model: nn.Module, inputs: list[torch.Tensor], run) -> None:
    theirs, ours = twins(model)
    expected, got = outputs(theirs, inputs, run), outputs(ours, inputs, run)
    assert len(expected) == len(got) > 1
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
