"""HeadEdges: each head attends as with its own adjacency, on every backend."""

from __future__ import annotations

import pytest
import torch

import graphformer as gf
from graphformer.adjacency import HeadEdges
from graphformer.ops import OffsetBias

LENGTHS = (5, 2, 4)
OWN = [
    gf.window(LENGTHS, 1),
    gf.causal(LENGTHS),
    gf.from_edge_index(torch.tensor([[1, 3, 7], [0, 2, 9]]), 11),  # most targets have no edge
]
BACKENDS = ("reference", "sdpa", "cpu", "scatter")


def inputs(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(11, 3, 7, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [tensor.requires_grad_() for tensor in tensors]


def by_definition(q, k, v, bias=None) -> torch.Tensor:
    """The definition: each head with its dense mask."""
    outs = []
    for head, own in enumerate(OWN):
        logits = q[:, head] @ k[:, head].T * 7**-0.5
        if bias is not None:
            logits = logits + bias[:, :, head]
        weights = logits.masked_fill(~own.to_mask(), -torch.inf).softmax(-1).nan_to_num(0)
        outs.append(weights @ v[:, head])
    return torch.stack(outs, dim=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_head_attends_over_its_own_edges(backend):
    edges = HeadEdges.of(*OWN)
    tensors = inputs()
    expected = by_definition(*tensors)
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    safe = torch.where(expected.isfinite(), expected, 0)
    expected_grads = torch.autograd.grad((safe * direction).sum(), tensors)
    out = gf.attention(*tensors, edges, backend=backend)
    torch.testing.assert_close(out, expected)
    grads = torch.autograd.grad((out * direction).sum(), tensors)
    for one, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(one, torch.nan_to_num(other))
    assert (out[:, 2].abs().sum(1) > 0).tolist() == [i in (0, 2, 9) for i in range(11)]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_bias_is_added_to_present_edges(backend):
    edges = HeadEdges.of(*OWN)
    dense = torch.randn(11, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    source, target = edges.edge_index
    out = gf.attention(*inputs(), edges, bias=dense[target, source], backend=backend)
    torch.testing.assert_close(out, by_definition(*inputs(), bias=dense))


def test_an_offset_bias():
    edges = HeadEdges.of(*OWN)
    table = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    nodes = torch.arange(11)
    dense = table[(nodes - nodes[:, None]).clamp(-2, 2) + 2]
    for backend in ("auto", "sdpa"):
        out = gf.attention(*inputs(), edges, bias=OffsetBias(table), backend=backend)
        torch.testing.assert_close(out, by_definition(*inputs(), bias=dense))


def test_transposed_edges_keep_their_heads():
    edges = HeadEdges.of(*OWN)
    for transposed in (edges.T, edges.T.canonical()):
        source, target = transposed.edge_index
        for head, own in enumerate(OWN):
            assert torch.equal(transposed.heads[:, head], own.contains(source, target))
    assert torch.equal(edges.T.T.canonical().heads, edges.heads)


def test_operations_that_would_lose_the_heads_are_refused():
    edges = HeadEdges.of(*OWN)
    for combine in (
        lambda: edges | gf.complete(LENGTHS),
        lambda: gf.complete(LENGTHS) & edges,
        lambda: gf.union([gf.complete(LENGTHS), edges]),
        lambda: gf.batch([edges, edges]),
        lambda: edges.with_self_loops(),
    ):
        with pytest.raises(ValueError, match="heads"):
            combine()


def test_another_number_of_heads_is_refused():
    with pytest.raises(ValueError, match="got edges for 3 heads, expected 2"):
        gf.attention(*(x[:, :2] for x in inputs()), HeadEdges.of(*OWN))


def test_head_bias():
    edges = HeadEdges.of(*OWN)
    assert edges.heads is not None
    absent = edges.head_bias(None, 3, torch.float64)
    assert absent.dtype == torch.float64
    assert torch.equal(absent == 0, edges.heads)
    assert torch.equal(absent.isneginf(), ~edges.heads)
    bias = torch.randn(edges.num_edges, 3)
    masked = edges.head_bias(bias, 3, bias.dtype)
    assert torch.equal(masked[edges.heads], bias[edges.heads])
    assert masked[~edges.heads].isneginf().all()
    with pytest.raises(ValueError, match="got edges for 3 heads, expected 5"):
        edges.head_bias(None, 5, torch.float32)


def test_repeated_edges_are_refused():
    repeated = gf.from_edge_index(torch.tensor([[0, 0], [1, 1]]), 3, coalesce=False)
    with pytest.raises(ValueError, match="expected coalesced edges in each head"):
        HeadEdges.of(repeated, gf.complete(3))
