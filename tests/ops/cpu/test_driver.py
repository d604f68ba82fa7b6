"""The passes of the fused CPU kernels: split rows, widths, numerics, layouts.

That they equal the definition on every awkward adjacency is tested with the other backends.
"""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.awkward import AWKWARD
from helpers.cpu_cases import (
    BIPARTITE,
    FUNCTIONS,
    HEADS,
    HUB,
    OPTIONS,
    PLAIN,
    SEED,
    assert_as_reference,
    assert_same_bits,
    attention_options,
    function_options,
    hub,
    inputs,
    results,
)

from graphformer.adjacency import complete, from_edge_index
from graphformer.ops import cpu, reference
from graphformer.ops.common import dropout_mask


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_split_over_work_items(function: str, options: str) -> None:
    tensors = inputs(function, HUB)
    own, edge_options = function_options(function, HUB), attention_options(HUB, OPTIONS[options])
    assert_as_reference(function, tensors, HUB, **own, **edge_options)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_int64_indices(function: str) -> None:
    tensors, own = inputs(function, HUB), function_options(function, HUB)
    adjacencies = (HUB, hub(wide=True))
    assert_same_bits([results(cpu, function, tensors, a, **own, **PLAIN) for a in adjacencies])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("function", ["attention", "additive_attention", "gatv2_attention"])
def test_edges_are_listed_with_and_without_their_ids(function: str, wide: bool) -> None:
    """A bias of zero needs the ids of edges, and changes nothing."""
    adjacency = hub(wide=wide)
    own = {"scale": 0.37} if function == "attention" else {"negative_slope": 0.2}
    tensors = inputs(function, adjacency)
    zero = PLAIN | {"bias": torch.zeros(adjacency.num_edges, HEADS)}
    plain = results(cpu, function, tensors, adjacency, **own, **PLAIN)
    outputs, gradients = results(cpu, function, tensors, adjacency, **own, **zero)
    assert_same_bits([plain, (outputs, gradients[: len(tensors)])])


@pytest.mark.parametrize("width", [16, 19])
def test_widths_compiled_in_and_not(width: int) -> None:
    assert_as_reference(
        "attention", inputs("attention", HUB, width), HUB, scale=width**-0.5, **PLAIN
    )


def test_many_rows_without_an_edge() -> None:
    nodes = 1_000_003
    adjacency = from_edge_index(torch.tensor([[nodes - 1], [nodes - 1]]), nodes).to_csr()
    t, v = torch.ones(nodes, 1, requires_grad=True), torch.ones(nodes, 1, 1, requires_grad=True)
    out, _ = cpu.additive_attention(t, t, v, adjacency, negative_slope=0.2, **PLAIN)
    assert out.sum() == 1
    grads = torch.autograd.grad(out.sum(), (t, v))
    assert [float(g.sum()) for g in grads] == [0, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in inputs("attention", HUB)]
    half = results(cpu, "attention", tensors, HUB, scale=0.4, **PLAIN)
    full = results(cpu, "attention", [x.float() for x in tensors], HUB, scale=0.4, **PLAIN)
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
def test_nan_reaches_the_targets_of_its_node_only(number: int) -> None:
    tensors = inputs("attention", BIPARTITE)
    tensors[number][4, 1, 2] = torch.nan
    clean = [x.nan_to_num() for x in tensors]
    (out,), grads = results(cpu, "attention", tensors, BIPARTITE, scale=0.4, **PLAIN)
    (want,), _ = results(reference, "attention", tensors, BIPARTITE, scale=0.4, **PLAIN)
    (other,), _ = results(cpu, "attention", clean, BIPARTITE, scale=0.4, **PLAIN)
    assert torch.equal(out.isnan(), want.isnan())
    assert torch.equal(out[~out.isnan()], other[~out.isnan()])
    assert all(g.isnan().any() and not g[:, 0].isnan().any() for g in grads[:2])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_bias_that_is_not_finite_propagates(value: float) -> None:
    options = attention_options(BIPARTITE, {"bias"})
    assert options["bias"] is not None
    options["bias"][7, 1] = value
    out, _ = cpu.attention(*inputs("attention", BIPARTITE), BIPARTITE, scale=0.4, **options)
    target = BIPARTITE.edge_index[1, 7]
    expected = torch.zeros_like(out, dtype=torch.bool)
    expected[target, 1] = True
    assert torch.equal(out.isnan(), expected)


def test_strided_inputs_give_equal_bits() -> None:
    torch.manual_seed(3)
    adjacency = AWKWARD["duplicates"]()
    q, k, v = torch.randn(7, 3, 2, 7).unbind(1)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    dense, _ = cpu.attention(*(x.contiguous() for x in (q, k, v)), adjacency, scale=1, **PLAIN)
    for tensors in ((q, k, v), turned):
        out, _ = cpu.attention(*tensors, adjacency, scale=1, **PLAIN)
        assert torch.equal(out, dense)


def test_dropout_is_that_of_all_backends() -> None:
    options = attention_options(HUB, {"dropout", "weights"})
    _, weights = cpu.attention(*inputs("attention", HUB), HUB, scale=0.37, **options)
    assert weights is not None
    kept = dropout_mask(HUB.num_edges, HEADS, 0.3, SEED)
    assert torch.equal(weights > 0, kept[HUB.slots])


def test_the_backward_pass_makes_the_order_by_source_that_it_misses() -> None:
    from graphformer.ops.cpu import driver

    for csr in (HUB, BIPARTITE, hub(wide=True), AWKWARD["no-edges"]().to_csr()):
        made = driver.by_source(csr.indptr, csr.indices, csr.shape[1])
        assert all(torch.equal(a, b) for a, b in zip(made, csr.by_source, strict=True))


def test_a_numba_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import graphformer as gf

    monkeypatch.delattr(cpu, "driver", raising=False)
    monkeypatch.setitem(sys.modules, "graphformer.ops.cpu.driver", None)
    score, v = torch.ones(5, 2), torch.ones(5, 2, 3)
    for backend in ("cpu", "auto"):
        with pytest.raises(ImportError, match=r"cpu backend needs numba.*pip install"):
            gf.additive_attention(score, score, v, gf.window(5, 1), backend=backend)
