"""The fused layers have the outputs, gradients and errors of PyG's layers."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from helpers.awkward import hub, random_edges
from helpers.twins import (
    DE,
    LAYERS,
    LOOPS,
    C,
    E,
    F,
    H,
    M,
    N,
    assert_same,
    edges,
    outputs,
    randn,
    twins,
)
from torch import nn
from torch.nn.utils import prune
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv
from torch_geometric.utils import to_torch_csr_tensor

import graphformer as gf
import graphformer.pyg
from graphformer.adjacency.from_tensor import _CACHE


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer(kind, concat, bias):
    edge_index = edges()
    conv = kind(F, C, heads=H, concat=concat, bias=bias)
    assert_same(conv, [randn(N, F)], lambda m, x: m(x, edge_index))


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("loops", [True, False])
def test_self_loops_and_residual(kind, residual, loops):
    edge_index = edges()
    conv = kind(F, C, heads=H, residual=residual, add_self_loops=loops, negative_slope=0.3)
    assert_same(conv, [randn(N, F)], lambda m, x: m(x, edge_index))


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("fill", ["mean", "add", "max", 0.7, "tensor"])
def test_edge_features_of_self_loops(kind, fill):
    edge_index = edges()
    fill = randn(DE, seed=9) if fill == "tensor" else fill
    conv = kind(F, C, heads=H, edge_dim=DE, fill_value=fill)
    inputs = [randn(N, F), randn(E, DE, seed=1)]
    assert_same(conv, inputs, lambda m, x, e: m(x, edge_index, e))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("concat", [True, False])
def test_edge_features(kind, concat):
    edge_index = edges()
    loops = {"add_self_loops": False} if kind in LOOPS else {}
    conv = kind(F, C, heads=H, edge_dim=DE, concat=concat, **loops)
    inputs = [randn(N, F), randn(E, DE, seed=1)]
    assert_same(conv, inputs, lambda m, x, e: m(x, edge_index, e))


@pytest.mark.parametrize("kind", LOOPS)
def test_one_number_an_edge(kind):
    edge_index = edges()
    conv = kind(F, C, heads=H, edge_dim=1)
    inputs = [randn(N, F), randn(E, seed=1)]
    assert_same(conv, inputs, lambda m, x, e: m(x, edge_index, e))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("edge_dim", [None, DE])
def test_bipartite(kind, edge_dim):
    edge_index = edges(N, M)
    conv = kind((F, 2), C, heads=H, edge_dim=edge_dim)
    inputs = [randn(N, F), randn(M, 2, seed=2), randn(E, DE, seed=1)]

    def run(m, source, target, e):
        return m((source, target), edge_index, e if edge_dim else None)

    if edge_dim is None:
        inputs[2] = inputs[2] * 0
        assert_same(conv, inputs[:2], lambda m, s, t: m((s, t), edge_index))
    else:
        assert_same(conv, inputs, run)


def test_bipartite_with_one_projection_or_no_targets():
    edge_index = edges(N, M)
    pair = [randn(N, F), randn(M, F, seed=2)]
    for options in ({}, {"residual": True}):
        conv = GATConv(F, C, heads=H, **options)
        assert_same(conv, pair, lambda m, s, t: m((s, t), edge_index))
    conv = GATConv((F, F), C, heads=H, add_self_loops=False)
    assert_same(conv, pair[:1], lambda m, s: m((s, None), edge_index, size=(N, M)))
    assert_same(conv, pair[:1], lambda m, s: m(s, edge_index))
    shared = GATv2Conv(F, C, heads=H, share_weights=True)
    assert_same(shared, pair, lambda m, s, t: m((s, t), edge_index))
    assert_same(shared, pair[:1], lambda m, s: m(s, edges()))


@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("root_weight", [True, False])
@pytest.mark.parametrize("concat", [True, False])
def test_root_weight_and_beta(beta, root_weight, concat):
    edge_index = edges()
    conv = TransformerConv(F, C, heads=H, beta=beta, root_weight=root_weight, concat=concat)
    assert_same(conv, [randn(N, F)], lambda m, x: m(x, edge_index))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("edge_dim", [None, DE])
def test_returned_weights(kind, edge_dim):
    edge_index = edges()
    theirs, ours = twins(kind(F, C, heads=H, edge_dim=edge_dim))
    e = randn(E, DE, seed=1) if edge_dim else None
    for flag in (True, False):
        expected = theirs(randn(N, F), edge_index, e, return_attention_weights=flag)
        got = ours(randn(N, F), edge_index, e, return_attention_weights=flag)
        torch.testing.assert_close(got, expected)

    def run(m, x):
        out, (_, alpha) = m(x, edge_index, e, return_attention_weights=True)
        return out, alpha

    assert_same(theirs, [randn(N, F)], run)


@pytest.mark.parametrize("kind", LOOPS)
def test_returned_weights_under_dropout(kind):
    _, conv = twins(kind(F, C, heads=H, dropout=0.4))
    _, (_, applied) = conv(randn(N, F), edges(), return_attention_weights=True)
    _, (_, weights) = conv.eval()(randn(N, F), edges(), return_attention_weights=True)
    nonzero = applied != 0
    torch.testing.assert_close(applied[nonzero], weights[nonzero] / 0.6)
    assert 0.4 < nonzero.double().mean() < 0.8


def test_a_transformer_conv_returns_the_weights_before_dropout():
    theirs, ours = twins(TransformerConv(F, C, heads=H, dropout=0.4))
    results = [
        model(randn(N, F), edges(), return_attention_weights=True)[1] for model in (theirs, ours)
    ]
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "edge_index",
    [
        torch.empty(2, 0, dtype=torch.int64),
        hub(N),
        random_edges(5, 5, 13),
        edges().T.contiguous().T,
    ],
    ids=["none", "hub", "isolated", "non-contiguous"],
)
def test_awkward_edges(kind, edge_index):
    for loops in [{}, {"add_self_loops": False}] if kind in LOOPS else [{}]:
        conv = kind(F, C, heads=H, **loops)
        assert_same(conv, [randn(N, F)], lambda m, x: m(x, edge_index))


@pytest.mark.parametrize("kind", LAYERS)
def test_int32_edges(kind):
    theirs, ours = twins(kind(F, C, heads=H))  # PyG's own gradients are wrong for int32
    expected = outputs(theirs, [randn(N, F)], lambda m, x: m(x, edges()))
    got = outputs(ours, [randn(N, F)], lambda m, x: m(x, edges().int()))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", LAYERS)
def test_duplicate_edges_count_separately_even_in_a_dense_graph(kind):
    edge_index = torch.tensor([[0, 0, 1, 1, 2, 0], [1, 1, 0, 2, 1, 1]])
    conv = kind(F, C, heads=H)
    assert_same(conv, [randn(3, F)], lambda m, x: m(x, edge_index))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_fused_forward_runs(kind, fused):
    conv = gf.accelerate(kind(F, C, heads=H, edge_dim=DE, dropout=0.4), quiet=True)
    fused()
    for _ in range(2):
        conv(torch.randn(N, F), edges(), torch.randn(E, DE)).sum().backward()
        conv.eval()


@pytest.mark.parametrize("kind", LAYERS)
def test_unsupported_inputs_run_pygs_forward(kind):
    theirs, ours = twins(kind(F, C, heads=H))
    x = randn(N, F)
    edge_index = torch.unique(edges(), dim=1).contiguous()
    if kind is TransformerConv:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they are in beta state
            sparse = to_torch_csr_tensor(edge_index.flip(0), size=(N, N))
        torch.testing.assert_close(ours(x, sparse), theirs(x, sparse))
    wrapped = EdgeIndex(edge_index, sparse_size=(N, N))
    torch.testing.assert_close(ours(x, wrapped), theirs(x, edge_index))
    assert _CACHE[wrapped.as_tensor()][1]
    seen = []
    handle = ours.register_message_forward_hook(lambda *args: seen.append(args))
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
    assert seen
    handle.remove()
    ours, theirs = copy.deepcopy(ours), copy.deepcopy(theirs)  # as PyG's explainers do
    for model in (theirs, ours):
        model.explain = True
        model._edge_mask = torch.full((edge_index.shape[1],), 0.3, dtype=torch.float64)
        model._loop_mask = edge_index[0] != edge_index[1]
        model._apply_sigmoid = True
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))


def test_an_edge_layer_that_is_not_a_matrix():
    edge_index, inputs = edges(), [randn(N, F), randn(E, DE, seed=1)]
    for kind in LAYERS:
        conv = kind(F, C, heads=H, edge_dim=DE)
        conv.lin_edge = nn.Sequential(nn.Linear(DE, H * C), nn.Tanh())
        assert_same(conv, inputs, lambda m, x, e: m(x, edge_index, e))


@pytest.mark.parametrize("register", ["forward", "pre", "backward_pre", "global", "pruning"])
@pytest.mark.parametrize("kind", [GATConv, TransformerConv])
def test_hooks_of_the_edge_layer_run(kind, register):
    """Its weight is folded into the fused forward, unless a hook has to see the call."""
    edge_index, x, e = edges(), randn(N, F), randn(E, DE, seed=1).requires_grad_()
    conv = gf.accelerate(kind(F, C, heads=H, edge_dim=DE), quiet=True).double()
    calls = []
    linear, handle = conv.lin_edge, None
    if register == "forward":
        linear.register_forward_hook(lambda *args: calls.append(1))
    elif register == "pre":
        linear.register_forward_pre_hook(lambda *args: calls.append(1))
    elif register == "backward_pre":
        linear.register_full_backward_pre_hook(lambda *args: calls.append(1))
    elif register == "global":
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, *args: calls.append(1) if module is linear else None
        )
    else:
        prune.l1_unstructured(linear, "weight", 0.5)
        linear.register_forward_hook(lambda *args: calls.append(1))
    try:
        conv(x, edge_index, e).sum().backward()
    finally:
        if handle is not None:
            handle.remove()
    assert calls


def test_lazy_layers():
    edge_index = edges()
    for kind in LAYERS:
        conv = gf.accelerate(kind(-1, C, heads=H, edge_dim=-1), quiet=True)
        out = conv(torch.randn(N, F), edge_index, torch.randn(E, DE))
        assert out.shape == (N, H * C)
        assert conv.lin_edge.weight.shape == (H * C, DE)


def test_edges_made_in_inference_mode():
    model = gf.accelerate(TransformerConv(F, C), quiet=True)
    with torch.inference_mode():
        edge_index = edges()
        first = model(torch.ones(N, F), edge_index)
        edge_index[1] = 0
        assert not torch.equal(model(torch.ones(N, F), edge_index), first)


def test_errors_are_pygs():
    for kind in LAYERS:
        conv = gf.accelerate(kind(F, C), quiet=True)
        with pytest.raises(ValueError, match="integer"):
            conv(torch.ones(N, F), edges().float())
        with pytest.raises(IndexError, match="source 23"):
            conv(torch.ones(N, F), edges(N + 1))
    conv = gf.accelerate(GATConv(F, C), quiet=True)
    with pytest.raises(ValueError, match="expected size 5"):
        conv(torch.ones(N, F), edges(), size=(5, 5))


def test_autocast_and_half():
    for kind in LAYERS:
        theirs = kind(F, C, heads=H)
        ours = gf.accelerate(copy.deepcopy(theirs), quiet=True)
        x = torch.randn(N, F, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected, got = theirs(x, edges()), ours(x, edges())
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05)


def test_dropout_keeps_the_expectation():
    torch.manual_seed(5)
    conv = gf.accelerate(GATConv(F, C, heads=2, dropout=0.5), quiet=True)
    x, edge_index = torch.randn(N, F), edges()
    mean = torch.stack([conv(x, edge_index) for _ in range(2003)]).mean(0)
    conv.eval()
    torch.testing.assert_close(mean, conv(x, edge_index), rtol=0.05, atol=0.15)


def test_traced_models_keep_their_edges_free():
    model = gf.accelerate(GATConv(F, C), quiet=True)
    other = edges()[:, :31]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyG's checks are constants of the trace
        traced = torch.jit.trace(model, (torch.ones(N, F), edges()), check_trace=False)
    x = torch.randn(N, F)
    torch.testing.assert_close(traced(x, other), model(x, other))


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
def test_compiled(kind):
    ours = gf.accelerate(kind(F, C, heads=H), quiet=True)
    compiled = torch.compile(ours, backend="aot_eager")
    x = torch.randn(N, F)
    edge_index = edges()
    for _ in range(2):
        torch.testing.assert_close(compiled(x, edge_index), ours(x, edge_index))


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv", "TransformerConv"])
def test_one_import_in_place_of_pygs(name):
    import torch_geometric.nn

    ours, theirs = (
        getattr(module, name)(5, 7, heads=3, edge_dim=2)
        for module in (graphformer.pyg, torch_geometric.nn)
    )
    assert repr(ours) == repr(theirs) == f"{name}(5, 7, heads=3)"
    theirs.load_state_dict(ours.state_dict())
    x, edge_index, edge_attr = torch.randn(11, 5), torch.randint(11, (2, 31)), torch.randn(31, 2)
    torch.testing.assert_close(ours(x, edge_index, edge_attr), theirs(x, edge_index, edge_attr))
