"""Inputs of the fused CPU kernels, and comparison of all results with the reference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from helpers.awkward import random_edges
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, from_edge_index
from graphformer.ops import cpu, reference
from graphformer.ops.common import AttentionOptions

SEED = torch.tensor(8_191)
FUNCTIONS = ["attention", "additive_attention", "gatv2_attention", "edge_feature_attention"]
OPTIONS: dict[str, set[str]] = {
    "plain": set(),
    "bias and edge weight": {"bias", "edge_weight"},
    "one edge weight for all heads, dropout, weights": {"shared_weight", "dropout", "weights"},
}
HEADS = 2
Results = tuple[list[Tensor], tuple[Tensor, ...]]


def hub(wide: bool = False) -> CSR:
    """A target and a source with more edges than a work item takes."""
    others = torch.arange(2_503)
    zeros = torch.zeros_like(others)
    edges = [torch.stack([others, zeros]), torch.stack([zeros, others]).flip(1)]
    edges.append(random_edges(2_503, 2_503, 401))
    csr = from_edge_index(torch.cat(edges, 1), 2_503).to_csr()
    if not wide:
        return csr
    return CSR(csr.indptr.long(), csr.indices.long(), csr.shape, csr.edge_ids, csr.inverse_index)


HUB = hub()
BIPARTITE = from_edge_index(random_edges(23, 17, 131), (23, 17)).to_csr()


def attention_options(
    adjacency: Adjacency, names: set[str], heads: int = HEADS
) -> AttentionOptions:
    """The named options, drawn at random."""
    edges = adjacency.num_edges
    weight = "shared_weight" in names or "edge_weight" in names
    width = 1 if "shared_weight" in names else heads
    return AttentionOptions(
        bias=torch.randn(edges, heads) if "bias" in names else None,
        edge_weight=torch.randn(edges, width) if weight else None,
        dropout=0.3 if "dropout" in names else 0.0,
        seed=SEED if "dropout" in names else None,
        return_weights="weights" in names,
    )


PLAIN = attention_options(BIPARTITE, set())


def inputs(function: str, adjacency: Adjacency, width: int = 7) -> list[Tensor]:
    """The tensors of a function, before its adjacency."""
    torch.manual_seed(3)
    targets, sources = adjacency.shape
    v = torch.randn(sources, HEADS, 5 if width == 7 else width)
    if function == "additive_attention":
        return [torch.randn(targets, HEADS), torch.randn(sources, HEADS), v]
    inputs = [torch.randn(targets, HEADS, width), torch.randn(sources, HEADS, width), v]
    if function == "gatv2_attention":
        inputs.append(torch.randn(HEADS, width))
    if function == "edge_feature_attention":
        inputs.append(torch.randn(adjacency.num_edges, 3))
        inputs += [torch.randn(HEADS, x.shape[2], 3) for x in (inputs[1], v)]
    return inputs


def function_options(function: str, adjacency: Adjacency) -> dict[str, Any]:
    """The options that only this function has."""
    if function in ("attention", "edge_feature_attention"):
        return {"scale": 0.37}
    own: dict[str, Any] = {"negative_slope": 0.2}
    if function == "additive_attention":
        return own | {"edge_score": torch.randn(adjacency.num_edges, HEADS)}
    return own | {"edge_key": torch.randn(adjacency.num_edges, HEADS, 7)}


def results(
    module: ModuleType,
    function: str,
    inputs: Sequence[Tensor],
    adjacency: Adjacency,
    **options: Any,
) -> Results:
    """Outputs and the gradients of all inputs and edge values of a fixed linear loss."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    named = {n: x for n, x in options.items() if isinstance(x, Tensor) and n != "seed"}
    named = {n: x.detach().clone().requires_grad_() for n, x in named.items()}
    outputs = getattr(module, function)(*leaves, adjacency, **(options | named))
    outputs = [x for x in outputs if x is not None]
    generator = torch.Generator().manual_seed(5)  # not torch's own, which threads share
    loss = sum((x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in outputs)
    return outputs, torch.autograd.grad(loss, [*leaves, *named.values()])


def assert_as_reference(
    function: str, inputs: Sequence[Tensor], adjacency: Adjacency, **options: Any
) -> None:
    """Compare outputs and all gradients with those of the reference in float64."""
    got = results(cpu, function, inputs, adjacency, **options)
    double = {
        n: x.double() if isinstance(x, Tensor) and n != "seed" else x for n, x in options.items()
    }
    expected = results(reference, function, [x.double() for x in inputs], adjacency, **double)
    for mine, exact in zip(itertools.chain(*got), itertools.chain(*expected), strict=True):
        size = float(exact.detach().abs().max())
        torch.testing.assert_close(mine.double(), exact, rtol=2e-4, atol=2e-5 * size)


def assert_same_bits(several: Sequence[Results]) -> None:
    """Compare several results bit by bit."""
    for other in several[1:]:
        pairs = zip(itertools.chain(*several[0]), itertools.chain(*other), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
