"""The fused CPU kernels against the reference: outputs, every gradient, bits, operators."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from graphformer.adjacency import CSR, Adjacency, batch, causal, complete, from_edge_index
from graphformer.ops import cpu, reference
from graphformer.ops.common import EdgeOptions

SEED = torch.tensor(8_191)


def _random_edges(targets: int, sources: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(targets)
    return torch.stack(
        [torch.randint(size, (count,), generator=random) for size in (sources, targets)]
    )


def _wide(adjacency: Adjacency) -> CSR:
    """The same edges with int64 indices."""
    csr = adjacency.to_csr()
    return CSR(csr.indptr.long(), csr.indices.long(), csr.shape, csr.edge_ids, csr.given)


def _hub() -> Adjacency:
    """A target and a source with more edges than a work item takes."""
    others = torch.arange(2_503)
    zeros = torch.zeros_like(others)
    edges = [torch.stack([others, zeros]), torch.stack([zeros, others]).flip(1)]
    return from_edge_index(torch.cat([*edges, _random_edges(2_503, 2_503, 401)], 1), 2_503)


GRAPHS = {
    "no edges": from_edge_index(torch.empty(2, 0, dtype=torch.long), 5),
    "no nodes": from_edge_index(torch.empty(2, 0, dtype=torch.long), 0),
    "no targets": from_edge_index(torch.empty(2, 0, dtype=torch.long), (0, 5)),
    "one node": from_edge_index(torch.zeros(2, 1, dtype=torch.long), 1),
    "isolated node": from_edge_index(torch.tensor([[0, 2, 2, 0], [2, 0, 2, 0]]), 3),
    "duplicate edges": from_edge_index(_random_edges(3, 3, 31), 3),
    "bipartite": from_edge_index(_random_edges(23, 17, 131), (23, 17)),
    "int64 indices": _wide(from_edge_index(_random_edges(29, 29, 173), 29)),
    "ragged batch with an empty sample": batch([complete(7), complete(0), causal(11)]),
    "hub": _hub(),
}
OPTIONS: dict[str, set[str]] = {
    "plain": set(),
    "bias and edge weight": {"bias", "edge_weight"},
    "one edge weight for all heads, dropout, weights": {"shared_weight", "dropout", "weights"},
}


def _edge_options(adjacency: Adjacency, heads: int, names: set[str]) -> EdgeOptions:
    edges = adjacency.num_edges
    weight = "shared_weight" in names or "edge_weight" in names
    width = 1 if "shared_weight" in names else heads
    return EdgeOptions(
        bias=torch.randn(edges, heads) if "bias" in names else None,
        edge_weight=torch.randn(edges, width) if weight else None,
        dropout=0.3 if "dropout" in names else 0.0,
        seed=SEED if "dropout" in names else None,
        return_weights="weights" in names,
    )


def _inputs(function: str, adjacency: Adjacency, heads: int, kv_heads: int) -> list[Tensor]:
    targets, sources = adjacency.shape
    values = torch.randn(sources, kv_heads, 5)
    if function == "additive_attention":
        return [torch.randn(targets, heads), torch.randn(sources, heads), values]
    inputs = [torch.randn(targets, heads, 7), torch.randn(sources, kv_heads, 7), values]
    return inputs + [torch.randn(heads, 7)] * (function == "gatv2_attention")


def _results(module: object, function: str, inputs: list[Tensor], *args: object, **options: object):  # type: ignore[no-untyped-def]
    """Outputs and the gradients of all inputs and edge values of a fixed linear loss."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    named = {n: options[n] for n in ("bias", "edge_weight") if options[n] is not None}
    named = {n: x.detach().clone().requires_grad_() for n, x in named.items()}  # type: ignore[attr-defined]
    outputs = getattr(module, function)(*leaves, *args, **{**options, **named})
    outputs = [x for x in outputs if x is not None]
    torch.manual_seed(5)
    loss = sum((x * torch.randn(x.shape).to(x)).sum() for x in outputs)
    return outputs, torch.autograd.grad(loss, [*leaves, *named.values()])


def _assert_same(function: str, inputs: list[Tensor], *args: object, **options: object) -> None:
    ours = _results(cpu, function, inputs, *args, **options)
    double = [x.double() for x in inputs]
    wide = {n: x.double() if n in ("bias", "edge_weight") and x is not None else x
            for n, x in options.items()}  # type: ignore[attr-defined]  # fmt: skip
    theirs = _results(reference, function, double, *args, **wide)
    for mine, exact in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        size = exact.detach().abs().max() if exact.numel() else 1
        torch.testing.assert_close(mine.double(), exact, rtol=2e-4, atol=2e-5 * float(size))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", ["attention", "additive_attention", "gatv2_attention"])
def test_equals_reference(function: str, options: str, graph: str) -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS[graph]
    own = {"scale": 0.37} if function == "attention" else {"negative_slope": 0.2}
    edge_options = _edge_options(adjacency, 2, OPTIONS[options])
    _assert_same(function, _inputs(function, adjacency, 2, 2), adjacency, **own, **edge_options)


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (6, 1)])
@pytest.mark.parametrize("function", ["attention", "gatv2_attention"])
def test_grouped_heads(function: str, heads: int, kv_heads: int) -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"]
    own = {"scale": 0.37} if function == "attention" else {"negative_slope": 0.2}
    options = _edge_options(adjacency, heads, set())
    _assert_same(
        function, _inputs(function, adjacency, heads, kv_heads), adjacency, **own, **options
    )


@pytest.mark.parametrize("width", [16, 19])
def test_widths_compiled_in_and_not(width: int) -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["hub"]
    q, k, v = (torch.randn(2_503, 3, width) for _ in range(3))
    options = _edge_options(adjacency, 3, set())
    _assert_same("attention", [q, k, v], adjacency, scale=width**-0.5, **options)


# Edge features -----------------------------------------------------------------------------------


def edge_feature_attention(q, k, v, edge_attr, key_map, value_map, adjacency, *, scale, **options):  # type: ignore[no-untyped-def]
    """The oracle: every edge is its own source, with the mapped features added."""
    csr = adjacency.to_csr()
    source = adjacency.edge_index[0]
    keys = k[source] + torch.einsum("hde,ne->nhd", key_map, edge_attr)
    values = v[source] + torch.einsum("hde,ne->nhd", value_map, edge_attr)
    indices = torch.arange(csr.num_edges) if csr.edge_ids is None else csr.edge_ids
    own_sources = CSR(csr.indptr, indices, (csr.shape[0], csr.num_edges), csr.edge_ids)
    return reference.attention(q, keys, values, own_sources, scale=scale, **options)


@pytest.mark.parametrize("graph", ["no edges", "bipartite", "hub"])
@pytest.mark.parametrize("options", OPTIONS)
def test_edge_features(options: str, graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "edge_feature_attention", edge_feature_attention, raising=False)
    torch.manual_seed(3)
    adjacency, heads = GRAPHS[graph], 2
    inputs = _inputs("attention", adjacency, heads, heads)
    inputs += [torch.randn(adjacency.num_edges, 3), torch.randn(2, 7, 3), torch.randn(2, 5, 3)]
    edge_options = _edge_options(adjacency, heads, OPTIONS[options])
    _assert_same("edge_feature_attention", inputs, adjacency, scale=0.37, **edge_options)


# Numerics ----------------------------------------------------------------------------------------


def _plain(heads: int = 2) -> EdgeOptions:
    return _edge_options(GRAPHS["no edges"], heads, set())


def test_gradcheck() -> None:
    torch.manual_seed(3)
    adjacency = from_edge_index(_random_edges(3, 5, 11), (3, 5))
    inputs = [x.double() for x in _inputs("attention", adjacency, 2, 2)]
    edges = torch.randn(2, adjacency.num_edges, 2, dtype=torch.double)
    leaves = [x.requires_grad_() for x in (*inputs, *edges)]

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        options = {**_plain(), "bias": bias, "edge_weight": weight}
        return cpu.attention(q, k, v, adjacency, scale=0.4, **options)[0]  # type: ignore[misc]

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["hub"]
    inputs = [x.to(dtype) for x in _inputs("attention", adjacency, 2, 2)]
    half = _results(cpu, "attention", inputs, adjacency, scale=0.4, **_plain())
    full = _results(cpu, "attention", [x.float() for x in inputs], adjacency, scale=0.4, **_plain())
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
    out, _ = cpu.attention(q, k, v, adjacency, scale=0.4, **_plain(1))
    out.backward(torch.full_like(out, 3.0))
    assert k.grad is not None
    assert float(k.grad.abs().max()) < 0.05


def test_minus_infinity_is_an_absent_edge() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"]
    inputs = _inputs("attention", adjacency, 2, 2)
    bias = torch.zeros(adjacency.num_edges, 2)
    bias[::3] = -torch.inf
    bias[adjacency.edge_index[1] == 5] = -torch.inf  # a target that loses all edges
    options = {**_plain(), "bias": bias}
    outputs, grads = _results(cpu, "attention", inputs, adjacency, scale=0.4, **options)
    assert torch.equal(outputs[0][5], torch.zeros(2, 5))
    assert all(g.isfinite().all() for g in grads)
    assert torch.equal(grads[0][5], torch.zeros(2, 7))
    _assert_same("attention", inputs, adjacency, scale=0.4, **options)


def test_large_logits() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"]
    inputs = _inputs("attention", adjacency, 2, 2)
    outputs, grads = _results(cpu, "attention", inputs, adjacency, scale=1e4, **_plain())
    exact, _ = reference.attention(*(x.double() for x in inputs), adjacency, scale=1e4, **_plain())
    torch.testing.assert_close(outputs[0].double(), exact, rtol=1e-2, atol=1e-2)
    assert all(g.isfinite().all() for g in grads)


def test_nan_stays_where_it_is_seen() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"]
    q, k, v = _inputs("attention", adjacency, 2, 2)
    k[4, 1, 2] = torch.nan
    out, _ = cpu.attention(q, k, v, adjacency, scale=0.4, **_plain())
    seen = adjacency.to_mask()[:, 4]
    assert torch.equal(out.isnan().all(-1), torch.stack([torch.zeros_like(seen), seen], 1))


def test_strided_inputs_are_taken_as_they_are() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["duplicate edges"]
    q, k, v = torch.randn(3, 3, 2, 7).unbind(1)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    dense, _ = cpu.attention(*(x.contiguous() for x in (q, k, v)), adjacency, scale=1, **_plain())
    for inputs in ((q, k, v), turned):
        out, _ = cpu.attention(*inputs, adjacency, scale=1, **_plain())
        assert torch.equal(out, dense)


# Bits, threads, operators ------------------------------------------------------------------------


@pytest.fixture
def threads():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("function", ["attention", "additive_attention", "gatv2_attention"])
def test_same_bits_for_any_number_of_threads(function: str, threads) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(3)
    adjacency = GRAPHS["hub"]
    inputs = _inputs(function, adjacency, 2, 2)
    own = {"scale": 0.37} if function == "attention" else {"negative_slope": 0.2}
    options = _edge_options(adjacency, 2, OPTIONS["bias and edge weight"])
    results = []
    for number in (1, 2, 2):
        threads(number)
        results.append(_results(cpu, function, inputs, adjacency, **own, **options))
    for other in results[1:]:
        pairs = zip(itertools.chain(*results[0]), itertools.chain(*other), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def _operator_inputs(adjacency: Adjacency, names: set[str]) -> tuple[object, ...]:
    torch.manual_seed(3)
    csr = adjacency.to_csr()
    edges = _edge_options(adjacency, 2, names)
    values = [x.requires_grad_() for x in _inputs("attention", adjacency, 2, 2)]
    per_edge = [
        x if x is None else x.requires_grad_() for x in (edges["bias"], edges["edge_weight"])
    ]
    order = csr.indptr, csr.indices, csr.edge_ids, *csr.by_source
    settings = 0, 0.4, 0.0, edges["dropout"], edges["return_weights"]
    return (*values, None, None, None, *per_edge, *order, edges["seed"], *settings)


@pytest.mark.parametrize("options", OPTIONS)
def test_opcheck(options: str) -> None:
    from graphformer.ops.cpu.operators import attend

    inputs = _operator_inputs(GRAPHS["bipartite"], OPTIONS[options])
    torch.library.opcheck(attend, inputs, rtol=1e-4, atol=1e-5)


def test_compiles_without_a_graph_break() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"].to_csr()
    adjacency.by_source  # noqa: B018 - made once, outside the compiled function

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cpu.attention(q * 2, k, v, adjacency, scale=0.4, **_plain())[0].relu()

    inputs = [x.requires_grad_() for x in _inputs("attention", adjacency, 2, 2)]
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected, out = run(*inputs), compiled(*inputs)
    assert torch.equal(out, expected)
    grads = (torch.autograd.grad(x.sum(), inputs) for x in (out, expected))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_autocast() -> None:
    torch.manual_seed(3)
    adjacency = GRAPHS["bipartite"]
    x, y = torch.randn(23, 7), torch.randn(17, 7)
    linear = torch.nn.Linear(7, 14)
    bias = torch.randn(adjacency.num_edges, 2)
    with torch.autocast("cpu", torch.bfloat16):
        q, k, v = (linear(z).unflatten(-1, (2, 7)) for z in (x, y, y))
        out, _ = cpu.attention(q, k, v, adjacency, scale=0.4, **{**_plain(), "bias": bias})  # type: ignore[misc]
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


def test_second_derivatives_are_refused() -> None:
    adjacency = GRAPHS["bipartite"]
    inputs = [x.requires_grad_() for x in _inputs("attention", adjacency, 2, 2)]
    out, _ = cpu.attention(*inputs, adjacency, scale=0.4, **_plain())
    (grad,) = torch.autograd.grad(out.sum(), inputs[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad.sum().backward()
