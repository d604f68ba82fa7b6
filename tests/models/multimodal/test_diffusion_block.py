"""Blocks of diffusion transformers: formulas by hand, and what they compute at first."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from graphformer import adjacency
from graphformer.models.multimodal.diffusion_block import (
    DiffusionBlock,
    DiffusionHead,
    TimeEmbedding,
    repeat_by_sample,
)

SIZES, SOURCES = (5, 2), (3, 0)
DIM, SOURCE_DIM = 6, 7


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Nodes, sources and conditions."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((sum(SIZES), DIM), (sum(SOURCES), SOURCE_DIM), (len(SIZES), DIM))
    x, source, condition = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, source, condition


def block() -> DiffusionBlock:
    torch.manual_seed(0)
    return DiffusionBlock(DIM, 3, source_dim=SOURCE_DIM)


def run(module: DiffusionBlock, x: Tensor, source: Tensor, condition: Tensor) -> Tensor:
    own, across = adjacency.complete(SIZES), adjacency.complete(SIZES, SOURCES)
    return module(x, own, source, across, condition, SIZES)


def test_a_new_block_is_the_identity() -> None:
    x, source, condition = inputs()
    assert torch.equal(run(block(), x, source, condition), x)


def test_a_new_head_returns_zero() -> None:
    x, _, condition = inputs()
    assert torch.equal(DiffusionHead(DIM, 5)(x, condition, SIZES), torch.zeros(len(x), 5))


def test_the_parts_are_shifted_scaled_and_gated() -> None:
    """Node by node, with the vectors of its own sample."""
    module, (x, source, condition) = block(), inputs()
    nn.init.normal_(module.modulation.linear.weight, std=0.3)
    found = run(module, x, source, condition)
    linear = module.modulation.linear
    vectors = (linear(condition / (1 + torch.exp(-condition)))).unflatten(-1, (9, DIM))
    h = x
    for part, rows in enumerate(vectors.unbind(1)[0::3]):
        sample = [0] * SIZES[0] + [1] * SIZES[1]
        shift, scale, gate = (
            rows[sample],
            vectors[sample, 3 * part + 1],
            vectors[sample, 3 * part + 2],
        )
        normed = (h - h.mean(1, keepdim=True)) / (
            h.var(1, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        moved = normed * (1 + scale) + shift
        if part == 0:
            added = module.attention(moved, adjacency.complete(SIZES))
        elif part == 1:
            added = module.cross_attention(moved, adjacency.complete(SIZES, SOURCES), source)
        else:
            added = module.mlp(moved)
        h = h + gate * added
    torch.testing.assert_close(found, h)


def test_times_are_sines_and_cosines_of_their_thousandfold() -> None:
    torch.manual_seed(0)
    module = TimeEmbedding(4)
    found = module(torch.tensor([0.0, 0.003]))
    rows = [[0, 1, 0, 1], [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]]
    h = module.linear1(torch.tensor(rows))
    torch.testing.assert_close(found, module.linear2(h / (1 + torch.exp(-h))))


@pytest.mark.parametrize("sizes", [(3, 3), (2, 0, 5)])
def test_rows_are_repeated_for_the_nodes_of_their_sample(sizes: tuple[int, ...]) -> None:
    rows = torch.randn(len(sizes), 2, requires_grad=True)
    found = repeat_by_sample(rows, sizes)
    expected = torch.cat([row.expand(n, 2) for row, n in zip(rows, sizes, strict=True)])
    assert torch.equal(found, expected)
    found.sum().backward()
    assert rows.grad[:, 0].tolist() == list(sizes)
