"""The Triton kernels against the definition, output and every gradient, on awkward adjacencies.

On a CUDA device these run natively (`make test-gpu`). Without one they run in Triton's
interpreter, in a process of their own: see test_triton.py.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import definition
import pytest
import torch
from awkward import AWKWARD, random_edges
from torch import Tensor

import graphformer as gf
from graphformer.adjacency import CSR, Adjacency
from graphformer.ops import reference
from graphformer.ops import triton as backend
from graphformer.ops.common import EdgeOptions, keep

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [] if INTERPRETED else [pytest.mark.gpu]

HEADS, KV_HEADS, WIDTH, VALUE_WIDTH, FEATURES = 6, 3, 5, 7, 3
FUNCTIONS = ["attention", "additive_attention", "gatv2_attention", "edge_feature_attention"]
OPTIONS: dict[str, set[str]] = {
    "plain": set(),
    "bias and edge weight": {"bias", "edge_weight"},
    "one edge weight for all heads, dropout, weights": {"shared_weight", "dropout", "weights"},
}
# (rtol, atol) of outputs and gradients against float64
TOLERANCE = {
    torch.float32: (2e-4, 2e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (6e-2, 6e-2),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, torch.float32)


def seed() -> Tensor:
    return torch.tensor(8_191, device=DEVICE)


def edge_options(adjacency: Adjacency, names: set[str]) -> EdgeOptions:
    edges = adjacency.num_edges
    width = 1 if "shared_weight" in names else HEADS
    weighted = names & {"shared_weight", "edge_weight"}
    return EdgeOptions(
        bias=randn(edges, HEADS, seed=5) if "bias" in names else None,
        edge_weight=randn(edges, width, seed=4) if weighted else None,
        dropout=0.3 if "dropout" in names else 0.0,
        seed=seed() if "dropout" in names else None,
        return_weights="weights" in names,
    )


def inputs(function: str, adjacency: Adjacency, kv_heads: int = KV_HEADS, width: int = WIDTH):
    (m, n), edges = adjacency.shape, adjacency.num_edges
    value_width = VALUE_WIDTH if width == WIDTH else width
    if function == "additive_attention":
        values = randn(n, HEADS, value_width, seed=3)
        return [randn(m, HEADS, seed=1), randn(n, HEADS, seed=2), values]
    tensors = [randn(m, HEADS, width, seed=1), randn(n, kv_heads, width, seed=2)]
    tensors.append(randn(n, kv_heads, value_width, seed=3))
    if function == "gatv2_attention":
        tensors.append(randn(HEADS, width, seed=6))
    if function == "edge_feature_attention":
        maps = (randn(HEADS, x, FEATURES, seed=8) for x in (width, value_width))
        tensors += [randn(edges, FEATURES, seed=7), *maps]
    return tensors


def own(function: str, adjacency: Adjacency) -> dict[str, object]:
    """The options that only this function has."""
    edges = adjacency.num_edges
    if function in ("attention", "edge_feature_attention"):
        return {"scale": 0.37}
    if function == "additive_attention":
        return {"negative_slope": 0.2, "edge_score": randn(edges, HEADS, seed=11)}
    return {"negative_slope": 0.2, "edge_key": randn(edges, HEADS, WIDTH, seed=11)}


def exact_results(module, function, tensors, adjacency, **options):  # type: ignore[no-untyped-def]
    """The same of an oracle, on a CPU in float64."""
    tensors = [x.cpu().double() for x in tensors]
    options = {
        n: (x.cpu() if n == "seed" else x.cpu().double()) if isinstance(x, Tensor) else x
        for n, x in options.items()
    }
    return results(module, function, tensors, adjacency.to("cpu"), **options)


def results(module, function, tensors, adjacency, **options):  # type: ignore[no-untyped-def]
    """Outputs and the gradients of all inputs and edge values of a fixed linear loss."""

    def leaf(x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_()

    leaves = [leaf(x) for x in tensors]
    named = {n: leaf(x) for n, x in options.items() if isinstance(x, Tensor) and n != "seed"}
    outputs = getattr(module, function)(*leaves, adjacency, **(options | named))
    outputs = [x for x in outputs if x is not None]
    loss = sum((x * randn(*x.shape, seed=9).to(x)).sum() for x in outputs)
    grads = torch.autograd.grad(
        loss, [*leaves, *named.values()], allow_unused=True, materialize_grads=True
    )
    return [x.detach() for x in outputs], grads


def assert_same(function, tensors, adjacency, oracle=reference, dtype=torch.float32, **options):  # type: ignore[no-untyped-def]
    narrow = [x.to(dtype) for x in tensors]
    options = {
        n: x.to(dtype) if isinstance(x, Tensor) and n != "seed" else x for n, x in options.items()
    }
    ours = results(backend, function, narrow, adjacency, **options)
    if oracle is definition:
        options = {n: x for n, x in options.items() if n in ("scale", "bias", "edge_weight")}
    theirs = exact_results(oracle, function, narrow, adjacency, **options)
    rtol, atol = TOLERANCE[dtype]
    for mine, exact in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert mine.dtype == dtype
        assert torch.isfinite(mine).all()
        size = max(1.0, float(exact.abs().max())) if exact.numel() else 1.0
        torch.testing.assert_close(mine.cpu().double(), exact, rtol=rtol, atol=atol * size)


def bits_are_equal(first, second) -> bool:  # type: ignore[no-untyped-def]
    pairs = zip(itertools.chain(*first), itertools.chain(*second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of more than 7 edges are split, so that small graphs have hubs."""
    from graphformer.ops.triton import plan

    monkeypatch.setattr(plan, "CHUNK", 7)
    monkeypatch.setattr(plan, "LONG", 3)


# Numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS[:3])
@pytest.mark.parametrize("name", AWKWARD)
def test_every_score_is_its_definition(name: str, function: str) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    options = edge_options(adjacency, {"bias", "edge_weight", "weights"})
    scale = {"scale": 0.7} if function == "attention" else {"negative_slope": 0.2}
    tensors = inputs(function, adjacency)
    assert_same(function, tensors, adjacency, definition, **scale, **options)


@pytest.mark.parametrize("name", ["hub", "bipartite"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_split_over_programs(
    function: str, options: str, name: str, small_parts: None
) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, OPTIONS[options])
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("function", FUNCTIONS[::3])
def test_a_hub_of_more_edges_than_a_part(function: str) -> None:
    others = torch.arange(1_103)
    zeros = torch.zeros_like(others)
    edges = [torch.stack([others, zeros]), torch.stack([zeros, others]).flip(1)]
    adjacency = gf.from_edge_index(torch.cat(edges, 1), 1_103).to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, {"bias", "dropout"})
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("name", ["isolated", "no-edges", "turned", "no-targets"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_edges_carry(function: str, options: str, name: str) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, OPTIONS[options])
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_dtype(function: str, dtype: torch.dtype, small_parts: None) -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, {"bias", "edge_weight"})
    assert_same(function, inputs(function, adjacency), adjacency, dtype=dtype, **every)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("function", ["attention", "gatv2_attention", "edge_feature_attention"])
def test_grouped_heads(function: str, kv_heads: int) -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, set())
    assert_same(function, inputs(function, adjacency, kv_heads), adjacency, **every)


@pytest.mark.parametrize("width", [1, 2, 16, 33, 256])
def test_every_width(width: int) -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    tensors = inputs("attention", adjacency, width=width)
    assert_same("attention", tensors, adjacency, scale=0.1, **edge_options(adjacency, set()))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_int64_indices(function: str) -> None:
    csr = AWKWARD["duplicates"]().to_csr().to(DEVICE)
    wide = CSR(csr.indptr.long(), csr.indices.long(), csr.shape, csr.edge_ids, csr.given)
    every = own(function, csr) | edge_options(csr, {"bias"})
    tensors = inputs(function, csr)
    pair = (results(backend, function, tensors, a, **every) for a in (csr, wide))
    assert bits_are_equal(*pair)


def test_dropout_is_the_shared_one() -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    options = edge_options(adjacency, {"dropout", "weights"})
    _, weights = backend.attention(*inputs("attention", adjacency), adjacency, scale=0.4, **options)
    expected = keep(adjacency.num_edges, HEADS, 0.3, seed())
    assert torch.equal(weights > 0, expected[adjacency.to_csr().slots])


def test_half_precision_key_gradient_has_no_offset() -> None:
    """A common shift of dout . v must cancel although the output is rounded."""
    adjacency = gf.complete(67).to(DEVICE)
    q, k = (randn(67, 1, 7, seed=i).bfloat16().requires_grad_() for i in range(2))
    v = torch.full((67, 1, 7), 100.3, dtype=torch.bfloat16, device=DEVICE)
    out, _ = backend.attention(q, k, v, adjacency, scale=0.4, **edge_options(adjacency, set()))
    out.backward(torch.full_like(out, 3.0))
    assert float(q.grad.abs().max()) < 0.05
    assert float(k.grad.abs().max()) < 0.05


def test_a_row_whose_logits_are_all_minus_infinity_is_empty() -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    target = adjacency.edge_index[1]
    options = edge_options(adjacency, {"bias", "weights"})
    options["bias"][target == 2, 1:] = -torch.inf
    options["bias"][0] = -torch.inf
    assert_same("attention", inputs("attention", adjacency), adjacency, scale=0.4, **options)
    out, _ = backend.attention(*inputs("attention", adjacency), adjacency, scale=0.4, **options)
    assert (out[2, 1:] == 0).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("number", [0, 1, 2], ids=["q", "k", "v"])
def test_nan_goes_where_it_is_seen_and_nowhere_else(number: int) -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    tensors, options = inputs("attention", adjacency), edge_options(adjacency, set())
    clean = results(backend, "attention", tensors, adjacency, scale=0.4, **options)
    tensors[number][4, 1, 2] = torch.nan
    (out,), _ = results(backend, "attention", tensors, adjacency, scale=0.4, **options)
    (want,), _ = results(reference, "attention", tensors, adjacency, scale=0.4, **options)
    assert torch.equal(out.isnan(), want.isnan())
    assert torch.equal(out[~out.isnan()], clean[0][0][~out.isnan()])


def test_large_logits_do_not_overflow() -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    q, k, v = inputs("attention", adjacency)
    options = edge_options(adjacency, set())
    assert_same("attention", [30 * q, k, v], adjacency, scale=1.0, **options)
    out, _ = backend.attention(1e4 * q, k, v, adjacency, scale=1.0, **options)
    assert torch.isfinite(out).all()


def test_inputs_may_be_views_in_any_layout() -> None:
    adjacency = AWKWARD["union"]().to(DEVICE)
    q, k, v = torch.randn(11, 3, 2, WIDTH, device=DEVICE).unbind(1)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    options = edge_options(adjacency, set())
    dense = [x.contiguous() for x in (q, k, v)]
    expected = results(backend, "attention", dense, adjacency, scale=1.0, **options)
    for views in ((q, k, v), turned):
        out, _ = backend.attention(*views, adjacency, scale=1.0, **options)
        assert torch.equal(out, expected[0][0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_inputs_give_the_same_bits(function: str, small_parts: None) -> None:
    adjacency = AWKWARD["hub"]().to(DEVICE)
    every = own(function, adjacency) | edge_options(adjacency, OPTIONS["bias and edge weight"])
    tensors = inputs(function, adjacency)
    pair = (results(backend, function, tensors, adjacency, **every) for _ in range(2))
    assert bits_are_equal(*pair)


def test_samples_are_isolated_to_the_bit() -> None:
    parts = [gf.from_edge_index(random_edges(n, n, 11), n) for n in (5, 7, 5)]
    adjacency = gf.batch(parts).to(DEVICE)
    tensors, options = inputs("attention", adjacency), edge_options(adjacency, set())
    before = results(backend, "attention", tensors, adjacency, scale=0.4, **options)
    for x in tensors:
        x[5:12] = 100 * randn(*x[5:12].shape, seed=8)
    after = results(backend, "attention", tensors, adjacency, scale=0.4, **options)
    others = torch.tensor([*range(5), *range(12, 17)], device=DEVICE)
    for a, b in zip(itertools.chain(*before), itertools.chain(*after), strict=True):
        assert torch.equal(a[others], b[others])


# Operators --------------------------------------------------------------------------------------


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("function", FUNCTIONS[2:])
def test_opcheck(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphformer.ops.triton import attend

    calls = []
    monkeypatch.setattr(backend, "attend", lambda *args: calls.append(args) or attend(*args))
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs(function, adjacency)]
    every = own(function, adjacency) | edge_options(adjacency, {"bias", "weights", "edge_weight"})
    getattr(backend, function)(*tensors, adjacency, **every)
    arguments = tuple(
        x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x
        for x in calls[0]
    )
    torch.library.opcheck(attend, arguments, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["random", "window"])
def test_compiles_in_one_graph(name: str, fresh_dynamo: None) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs("attention", adjacency)]

    def run(q: Tensor, k: Tensor, v: Tensor, adjacency: Adjacency) -> Tensor:
        return gf.attention(q * 2, k, v, adjacency, backend="triton").relu()

    out = torch.compile(run, fullgraph=True, backend="aot_eager")(*tensors, adjacency)
    expected = run(*tensors, adjacency)
    torch.testing.assert_close(out, expected)
    grads = (torch.autograd.grad(x.square().sum(), tensors) for x in (out, expected))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want)


def test_plans_and_orders_are_made_once_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphformer.ops.triton import plan

    monkeypatch.setattr(plan, "_kept", {})
    csr = AWKWARD["duplicates"]().to_csr().to(DEVICE)
    made = plan.order_of(csr.indptr, csr.indices, csr.shape[1])
    assert all(torch.equal(a, b) for a, b in zip(made, csr.by_source, strict=True))
    assert plan.order_of(csr.indptr, csr.indices, csr.shape[1]) is made
    assert plan.plan_of(csr.indptr) is plan.plan_of(csr.indptr.detach())
    assert len(plan._kept) == 2
    del csr, made
    plan.plan_of(AWKWARD["random"]().to_csr().to(DEVICE).indptr)
    assert len(plan._kept) == 1


def test_autocast() -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    linear = torch.nn.Linear(7, 2 * WIDTH).to(DEVICE)
    options = edge_options(adjacency, set())
    with torch.autocast(DEVICE, torch.bfloat16):
        sizes = adjacency.shape[0], adjacency.shape[1], adjacency.shape[1]
        q, k, v = (linear(randn(n, 7)).unflatten(-1, (2, WIDTH)) for n in sizes)
        out, _ = backend.attention(q, k, v, adjacency, scale=0.4, **options)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad.isfinite().all()


def test_what_it_cannot_do_is_said() -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    q, k, v = (x.double() for x in inputs("attention", adjacency))
    with pytest.raises(ValueError, match="takes no float64"):
        gf.attention(q, k, v, adjacency, backend="triton")
    q, k, v = (x.requires_grad_() for x in inputs("attention", adjacency))
    out = gf.attention(q, k, v, adjacency, backend="triton")
    (grad,) = torch.autograd.grad(out.sum(), [q], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad.sum().backward()


@pytest.mark.skipif(INTERPRETED, reason="CUDA graphs need a CUDA device")
def test_cuda_graph() -> None:
    adjacency = AWKWARD["hub"]().to(DEVICE)
    tensors = [x.requires_grad_() for x in inputs("attention", adjacency)]

    def step() -> list[Tensor]:
        out = gf.attention(*tensors, adjacency, backend="triton")
        return [out, *torch.autograd.grad(out.square().sum(), tensors)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in tensors:
            x.mul_(0.5)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))
