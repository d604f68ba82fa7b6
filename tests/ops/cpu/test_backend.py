"""What is special to the fused CPU kernels: rows split over work items, bits, threads, operators.

That they equal the definition on every awkward adjacency is in test_dispatch, with other backends.
"""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from helpers.awkward import AWKWARD, random_edges
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, complete, from_edge_index, window
from graphformer.ops import cpu, reference
from graphformer.ops.common import AttentionOptions, dropout_mask

SEED = torch.tensor(8_191)
FUNCTIONS = ["attention", "additive_attention", "gatv2_attention", "edge_feature_attention"]
OPTIONS: dict[str, set[str]] = {
    "plain": set(),
    "bias and edge weight": {"bias", "edge_weight"},
    "one edge weight for all heads, dropout, weights": {"shared_weight", "dropout", "weights"},
}
HEADS = 2


@pytest.fixture(autouse=True)
def nan_in_fresh_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' scratch is numpy's: fill it with NaN, as conftest does torch's memory."""
    empty = np.empty

    def filled(*args: object, **kwargs: object) -> np.ndarray:
        array = empty(*args, **kwargs)  # type: ignore[call-overload]
        array.view(np.uint8).fill(255)
        return array

    monkeypatch.setattr(np, "empty", filled)


def _hub(wide: bool = False) -> CSR:
    """A target and a source with more edges than a work item takes."""
    others = torch.arange(2_503)
    zeros = torch.zeros_like(others)
    edges = [torch.stack([others, zeros]), torch.stack([zeros, others]).flip(1)]
    edges.append(random_edges(2_503, 2_503, 401))
    csr = from_edge_index(torch.cat(edges, 1), 2_503).to_csr()
    if not wide:
        return csr
    return CSR(csr.indptr.long(), csr.indices.long(), csr.shape, csr.edge_ids, csr.inverse_index)


HUB = _hub()
BIPARTITE = from_edge_index(random_edges(23, 17, 131), (23, 17)).to_csr()


def _edge_options(adjacency: Adjacency, names: set[str], heads: int = HEADS) -> AttentionOptions:
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


PLAIN = _edge_options(BIPARTITE, set())


def _inputs(function: str, adjacency: Adjacency, width: int = 7) -> list[Tensor]:
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


def _own(function: str, adjacency: Adjacency) -> dict[str, object]:
    """The options that only this function has."""
    if function in ("attention", "edge_feature_attention"):
        return {"scale": 0.37}
    own: dict[str, object] = {"negative_slope": 0.2}
    if function == "additive_attention":
        return own | {"edge_score": torch.randn(adjacency.num_edges, HEADS)}
    return own | {"edge_key": torch.randn(adjacency.num_edges, HEADS, 7)}


def _results(module, function, inputs, adjacency, **options):  # type: ignore[no-untyped-def]
    """Outputs and the gradients of all inputs and edge values of a fixed linear loss."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    named = {n: x for n, x in options.items() if isinstance(x, Tensor) and n != "seed"}
    named = {n: x.detach().clone().requires_grad_() for n, x in named.items()}
    outputs = getattr(module, function)(*leaves, adjacency, **(options | named))
    outputs = [x for x in outputs if x is not None]
    generator = torch.Generator().manual_seed(5)  # not torch's own, which threads share
    loss = sum((x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in outputs)
    return outputs, torch.autograd.grad(loss, [*leaves, *named.values()])


def _assert_same(function, inputs, adjacency, **options):  # type: ignore[no-untyped-def]
    ours = _results(cpu, function, inputs, adjacency, **options)
    double = {
        n: x.double() if isinstance(x, Tensor) and n != "seed" else x for n, x in options.items()
    }
    theirs = _results(reference, function, [x.double() for x in inputs], adjacency, **double)
    for mine, exact in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        size = float(exact.detach().abs().max())
        torch.testing.assert_close(mine.double(), exact, rtol=2e-4, atol=2e-5 * size)


def _assert_same_bits(results):  # type: ignore[no-untyped-def]
    for other in results[1:]:
        pairs = zip(itertools.chain(*results[0]), itertools.chain(*other), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# Rows that are split, widths ---------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_split_over_work_items(function: str, options: str) -> None:
    inputs = _inputs(function, HUB)
    own, edge_options = _own(function, HUB), _edge_options(HUB, OPTIONS[options])
    _assert_same(function, inputs, HUB, **own, **edge_options)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_int64_indices(function: str) -> None:
    inputs, own = _inputs(function, HUB), _own(function, HUB)
    adjacencies = (HUB, _hub(wide=True))
    _assert_same_bits([_results(cpu, function, inputs, a, **own, **PLAIN) for a in adjacencies])


@pytest.mark.parametrize("width", [16, 19])
def test_widths_compiled_in_and_not(width: int) -> None:
    _assert_same("attention", _inputs("attention", HUB, width), HUB, scale=width**-0.5, **PLAIN)


def test_many_rows_without_an_edge() -> None:
    nodes = 1_000_003
    adjacency = from_edge_index(torch.tensor([[nodes - 1], [nodes - 1]]), nodes).to_csr()
    t, v = torch.ones(nodes, 1, requires_grad=True), torch.ones(nodes, 1, 1, requires_grad=True)
    out, _ = cpu.additive_attention(t, t, v, adjacency, negative_slope=0.2, **PLAIN)
    assert out.sum() == 1
    grads = torch.autograd.grad(out.sum(), (t, v))
    assert [float(g.sum()) for g in grads] == [0, 1]


# Numerics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    inputs = [x.to(dtype) for x in _inputs("attention", HUB)]
    half = _results(cpu, "attention", inputs, HUB, scale=0.4, **PLAIN)
    full = _results(cpu, "attention", [x.float() for x in inputs], HUB, scale=0.4, **PLAIN)
    assert half[0][0].dtype == dtype
    assert torch.equal(half[0][0], full[0][0].to(dtype))
    for mine, exact in zip(half[1], full[1], strict=True):
        tolerance = torch.finfo(dtype).eps * float(exact.abs().max())
        torch.testing.assert_close(mine.float(), exact, rtol=2e-2, atol=2 * tolerance)


def test_half_precision_key_gradient_has_no_offset() -> None:
    """A common shift of dout . v must cancel although the output is rounded."""
    torch.manual_seed(3)
    adjacency = complete(67).to_csr()
    q, k = (torch.randn(67, 1, 7, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    v = torch.full((67, 1, 7), 100.3, dtype=torch.bfloat16)
    out, _ = cpu.attention(q, k, v, adjacency, scale=0.4, **PLAIN)
    out.backward(torch.full_like(out, 3.0))
    assert k.grad is not None
    assert float(k.grad.abs().max()) < 0.05


@pytest.mark.parametrize("number", [0, 1, 2], ids=["q", "k", "v"])
def test_nan_goes_where_it_is_seen_and_nowhere_else(number: int) -> None:
    inputs = _inputs("attention", BIPARTITE)
    inputs[number][4, 1, 2] = torch.nan
    clean = [x.nan_to_num() for x in inputs]
    (out,), grads = _results(cpu, "attention", inputs, BIPARTITE, scale=0.4, **PLAIN)
    (want,), _ = _results(reference, "attention", inputs, BIPARTITE, scale=0.4, **PLAIN)
    (other,), _ = _results(cpu, "attention", clean, BIPARTITE, scale=0.4, **PLAIN)
    assert torch.equal(out.isnan(), want.isnan())
    assert torch.equal(out[~out.isnan()], other[~out.isnan()])
    assert all(g.isnan().any() and not g[:, 0].isnan().any() for g in grads[:2])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bias_that_is_no_number_propagates(value: float) -> None:
    options = _edge_options(BIPARTITE, {"bias"})
    assert options["bias"] is not None
    options["bias"][7, 1] = value
    out, _ = cpu.attention(*_inputs("attention", BIPARTITE), BIPARTITE, scale=0.4, **options)
    target = BIPARTITE.edge_index[1, 7]
    expected = torch.zeros_like(out, dtype=torch.bool)
    expected[target, 1] = True
    assert torch.equal(out.isnan(), expected)


def test_strided_inputs_are_taken_as_they_are() -> None:
    torch.manual_seed(3)
    adjacency = AWKWARD["duplicates"]()
    q, k, v = torch.randn(7, 3, 2, 7).unbind(1)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    dense, _ = cpu.attention(*(x.contiguous() for x in (q, k, v)), adjacency, scale=1, **PLAIN)
    for inputs in ((q, k, v), turned):
        out, _ = cpu.attention(*inputs, adjacency, scale=1, **PLAIN)
        assert torch.equal(out, dense)


def test_dropout_is_the_shared_one() -> None:
    options = _edge_options(HUB, {"dropout", "weights"})
    _, weights = cpu.attention(*_inputs("attention", HUB), HUB, scale=0.37, **options)
    assert weights is not None
    kept = dropout_mask(HUB.num_edges, HEADS, 0.3, SEED)
    assert torch.equal(weights > 0, kept[HUB.slots])


# Threads -----------------------------------------------------------------------------------------


@pytest.fixture
def threads():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_same_bits_for_any_number_of_threads(function: str, threads) -> None:  # type: ignore[no-untyped-def]
    inputs, own = _inputs(function, HUB), _own(function, HUB)
    options = _edge_options(HUB, OPTIONS["bias and edge weight"])
    results = []
    for number in (1, 2, 3, 2):
        threads(number)
        results.append(_results(cpu, function, inputs, HUB, **own, **options))
    _assert_same_bits(results)


def test_python_threads_may_run_kernels_at_once(threads) -> None:  # type: ignore[no-untyped-def]
    threads(2)
    inputs = _inputs("attention", HUB)
    results = [None] * 5

    def work(i: int) -> None:
        for _ in range(3):
            results[i] = _results(cpu, "attention", inputs, HUB, scale=0.37, **PLAIN)

    workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(1, 5)]
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    _assert_same_bits([x for x in results if x is not None])
    assert None not in results


# Operators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_opcheck(function: str, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphformer.ops.cpu import attend

    calls = []
    monkeypatch.setattr(cpu, "attend", lambda *args: calls.append(args) or attend(*args))
    inputs = [x.requires_grad_() for x in _inputs(function, BIPARTITE)]
    own, edge_options = _own(function, BIPARTITE), _edge_options(BIPARTITE, OPTIONS[options])
    getattr(cpu, function)(*inputs, BIPARTITE, **own, **edge_options)
    arguments = tuple(
        x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x
        for x in calls[0]
    )
    torch.library.opcheck(attend, arguments, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda: _hub(), lambda: window([101, 11], 3)], ids=["csr", "rule"]
)
def test_compiles_in_one_graph_with_inductor(make) -> None:  # type: ignore[no-untyped-def]
    torch._dynamo.reset()
    adjacency = make()
    inputs = [x.requires_grad_() for x in _inputs("attention", adjacency)]

    def run(q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency) -> Tensor:
        return cpu.attention(q * 2, k, v, adjacency, scale=0.4, **PLAIN)[0].relu()

    out = torch.compile(run, fullgraph=True)(*inputs, adjacency)  # before anything is kept
    expected = run(*inputs, adjacency)
    torch.testing.assert_close(out, expected)
    grads = (torch.autograd.grad(x.square().sum(), inputs) for x in (out, expected))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want)


def test_the_backward_pass_makes_the_order_by_source_that_it_misses() -> None:
    from graphformer.ops.cpu import driver

    for csr in (HUB, BIPARTITE, _hub(wide=True), AWKWARD["no-edges"]().to_csr()):
        made = driver.by_source(csr.indptr, csr.indices, csr.shape[1])
        assert all(torch.equal(a, b) for a, b in zip(made, csr.by_source, strict=True))


def test_autocast() -> None:
    torch.manual_seed(3)
    x, y = torch.randn(23, 7), torch.randn(17, 7)
    linear = torch.nn.Linear(7, 14)
    options = _edge_options(BIPARTITE, {"bias"})
    with torch.autocast("cpu", torch.bfloat16):
        q, k, v = (linear(z).unflatten(-1, (2, 7)) for z in (x, y, y))
        out, _ = cpu.attention(q, k, v, BIPARTITE, scale=0.4, **options)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def test_second_derivatives_are_refused() -> None:
    inputs = [x.requires_grad_() for x in _inputs("attention", BIPARTITE)]
    out, _ = cpu.attention(*inputs, BIPARTITE, scale=0.4, **PLAIN)
    (grad,) = torch.autograd.grad(out.sum(), inputs[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad.sum().backward()
