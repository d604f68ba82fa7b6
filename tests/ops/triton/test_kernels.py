"""The Triton kernels against the definition, output and every gradient, on awkward adjacencies.

On a CUDA device these run natively (`make test-gpu`). Without one they run in Triton's
interpreter, in a process of their own: see test_backend.py.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import definition
from helpers.awkward import AWKWARD, random_edges
from helpers.triton_cases import (
    DEVICE,
    FUNCTIONS,
    HEADS,
    NATIVE,
    OPTIONS,
    TOLERANCE,
    WIDTH,
    assert_same,
    bits_are_equal,
    edge_options,
    function_options,
    inputs,
    randn,
    results,
    seed,
)

import graphformer as gf
from graphformer.adjacency import CSR
from graphformer.ops import reference
from graphformer.ops import triton as backend
from graphformer.ops.common import dropout_mask

pytestmark = NATIVE


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of more than 7 edges are split, so that small graphs have hubs."""
    from graphformer.ops.triton import schedule

    monkeypatch.setattr(schedule, "CHUNK", 7)
    monkeypatch.setattr(schedule, "LONG", 3)


@pytest.mark.parametrize("function", FUNCTIONS[:3])
@pytest.mark.parametrize("name", AWKWARD)
def test_every_kind_of_logit_is_its_definition(name: str, function: str) -> None:
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
    every = function_options(function, adjacency) | edge_options(adjacency, OPTIONS[options])
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("function", FUNCTIONS[::3])
def test_a_hub_of_more_edges_than_a_part(function: str) -> None:
    others = torch.arange(1_103)
    zeros = torch.zeros_like(others)
    edges = [torch.stack([others, zeros]), torch.stack([zeros, others]).flip(1)]
    adjacency = gf.from_edge_index(torch.cat(edges, 1), 1_103).to(DEVICE)
    every = function_options(function, adjacency) | edge_options(adjacency, {"bias", "dropout"})
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("name", ["isolated", "no-edges", "transposed", "no-targets"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_edge_tensors(function: str, options: str, name: str) -> None:
    adjacency = AWKWARD[name]().to(DEVICE)
    every = function_options(function, adjacency) | edge_options(adjacency, OPTIONS[options])
    assert_same(function, inputs(function, adjacency), adjacency, **every)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_dtype(function: str, dtype: torch.dtype, small_parts: None) -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    every = function_options(function, adjacency) | edge_options(adjacency, {"bias", "edge_weight"})
    assert_same(function, inputs(function, adjacency), adjacency, dtype=dtype, **every)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("function", ["attention", "gatv2_attention", "edge_feature_attention"])
def test_grouped_heads(function: str, kv_heads: int) -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    every = function_options(function, adjacency) | edge_options(adjacency, set())
    assert_same(function, inputs(function, adjacency, kv_heads), adjacency, **every)


@pytest.mark.parametrize("width", [1, 2, 16, 33, 256])
def test_every_width(width: int) -> None:
    adjacency = AWKWARD["bipartite"]().to(DEVICE)
    tensors = inputs("attention", adjacency, width=width)
    assert_same("attention", tensors, adjacency, scale=0.1, **edge_options(adjacency, set()))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_int64_indices(function: str) -> None:
    csr = AWKWARD["duplicates"]().to_csr().to(DEVICE)
    wide = CSR(csr.indptr.long(), csr.indices.long(), csr.shape, csr.edge_ids, csr.inverse_index)
    every = function_options(function, csr) | edge_options(csr, {"bias"})
    tensors = inputs(function, csr)
    pair = (results(backend, function, tensors, a, **every) for a in (csr, wide))
    assert bits_are_equal(*pair)


def test_dropout_is_that_of_all_backends() -> None:
    adjacency = AWKWARD["random"]().to(DEVICE)
    options = edge_options(adjacency, {"dropout", "weights"})
    _, weights = backend.attention(*inputs("attention", adjacency), adjacency, scale=0.4, **options)
    expected = dropout_mask(adjacency.num_edges, HEADS, 0.3, seed())
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
def test_nan_reaches_only_targets_that_attend_to_it(number: int) -> None:
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
    every = function_options(function, adjacency) | edge_options(
        adjacency, OPTIONS["bias and edge weight"]
    )
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
