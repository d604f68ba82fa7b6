"""Smoke test of the Triton and flex kernels: outputs and all gradients against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from graphformer import adjacency, ops

TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 6e-2}
"""Largest difference, relative to the largest value."""
HEADS, KV_HEADS, WIDTH, FEATURES = 6, 3, 32, 5
FUNCTIONS = ("attention", "additive_attention", "gatv2_attention", "edge_feature_attention")


def cases(device: str) -> Iterator[tuple[str, Callable[[], float], float]]:
    """Yield name, a function that returns the largest relative difference, and its tolerance."""
    for dtype, tolerance in TOLERANCE.items():
        short = str(dtype).removeprefix("torch.")
        for function in FUNCTIONS:
            for everything in (False, True):
                name = f"triton {function}, {short}{', all options' if everything else ''}"
                yield name, _graph_case(function, dtype, everything, device), tolerance
        for name, rule in _rules().items():
            yield f"flex {name}, {short}", _rule_case(rule, dtype, device), tolerance


def hub() -> adjacency.CSR:
    """A graph with short rows, long ones, and one that is split between programs."""
    generator = torch.Generator().manual_seed(3)
    nodes, everyone = 2053, torch.arange(2053)
    edges = [torch.randint(nodes, (2, 4099), generator=generator)]
    edges.append(torch.stack([everyone, torch.zeros_like(everyone)]))
    edges.append(torch.stack([everyone[:61], torch.full((61,), 7)]))
    return adjacency.from_edge_index(torch.cat(edges, 1), nodes).to_csr()


def _rules() -> dict[str, adjacency.Adjacency]:
    lengths = (257, 131, 61)
    return {
        "window": adjacency.window(lengths, 17),
        "causal": adjacency.causal(lengths),
        "union": adjacency.union([adjacency.window(lengths, 5), adjacency.causal(lengths)]),
    }


def _graph_case(
    function: str, dtype: torch.dtype, everything: bool, device: str
) -> Callable[[], float]:
    edges = hub()
    tensors, named, options = inputs(function, edges, everything=everything)

    def run() -> float:
        return _difference(function, tensors, named, options, edges, "triton", dtype, device)

    return run


def _rule_case(rule: adjacency.Adjacency, dtype: torch.dtype, device: str) -> Callable[[], float]:
    nodes = rule.shape[0]
    shapes = (nodes, HEADS, WIDTH), (nodes, KV_HEADS, WIDTH), (nodes, KV_HEADS, WIDTH)
    tensors = [_randn(*shape) for shape in shapes]
    return lambda: _difference("attention", tensors, {}, {}, rule, "flex", dtype, device)


def inputs(
    function: str, edges: adjacency.CSR, *, everything: bool
) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Any]]:
    """Tensors, edge values and options of a function."""
    (targets, sources), count = edges.shape, edges.num_edges
    tensors = [_randn(targets, HEADS, WIDTH), _randn(sources, KV_HEADS, WIDTH)]
    tensors.append(_randn(sources, KV_HEADS, WIDTH))
    named: dict[str, Tensor] = {}
    if function == "additive_attention":
        tensors = [_randn(targets, HEADS), _randn(sources, HEADS), _randn(sources, HEADS, WIDTH)]
        named = {"edge_score": _randn(count, HEADS)} if everything else {}
    if function == "gatv2_attention":
        tensors.append(_randn(HEADS, WIDTH))
        named = {"edge_key": _randn(count, HEADS, WIDTH)} if everything else {}
    if function == "edge_feature_attention":
        maps = _randn(HEADS, WIDTH, FEATURES), _randn(HEADS, WIDTH, FEATURES)
        tensors += [_randn(count, FEATURES), *maps]
    if everything:
        named |= {"bias": _randn(count, HEADS), "edge_weight": _randn(count)}
    return tensors, named, {"dropout": 0.3, "return_weights": True} if everything else {}


def _difference(
    function: str,
    tensors: list[Tensor],
    named: dict[str, Tensor],
    options: dict[str, Any],
    edges: adjacency.Adjacency,
    backend: str,
    dtype: torch.dtype,
    device: str,
) -> float:
    """The largest difference of outputs and gradients from the reference, relative to each."""
    found = []
    has_grads = backend != "flex" or device == "cuda"  # flex trains on CUDA only
    for which, place, kind in ((backend, device, dtype), ("reference", "cpu", torch.float64)):
        rounded = [x.to(dtype).to(place, kind).requires_grad_(has_grads) for x in tensors]
        values = {n: x.to(dtype).to(place, kind).requires_grad_() for n, x in named.items()}
        with _fixed_seed():
            out = getattr(ops, function)(
                *rounded, edges.to(place), backend=which, **values, **options
            )
        outputs = out if isinstance(out, tuple) else (out,)
        loss = sum((x.double() * _randn(*x.shape).to(place)).sum() for x in outputs)
        leaves = [*rounded, *values.values()] if has_grads else []
        grads = torch.autograd.grad(loss, leaves) if has_grads else ()  # type: ignore[arg-type]
        found.append([x.detach().cpu().double() for x in (*outputs, *grads)])
    return max(
        float((got - want).abs().max() / want.abs().max().clamp(min=1))
        for got, want in zip(*found, strict=True)
    )


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """Let `ops` draw the same seed of dropout on every device."""
    randint = torch.randint
    torch.randint = lambda *_, device=None, **__: torch.tensor(8191, device=device)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randint = randint


def _randn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
