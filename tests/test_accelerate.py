"""`accelerate`: the same model as PyG's, in outputs, gradients and all that is not speed."""

from __future__ import annotations

import copy
import gc
import io
import logging
import pickle
import warnings
import weakref

import pytest
import torch
from awkward import hub, random_edges
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.nn import (
    GAT,
    GATConv,
    GATv2Conv,
    GCNConv,
    HeteroConv,
    Sequential,
    TransformerConv,
    to_hetero,
)
from torch_geometric.utils import to_torch_csr_tensor

import graphformer as gf
import graphformer.pyg
from graphformer.pyg import FusedGATConv, FusedGATv2Conv, FusedTransformerConv
from graphformer.pyg.edges import _known

N, M, E, F, C, H, DE = 23, 17, 97, 7, 5, 3, 11
LAYERS = {GATConv: FusedGATConv, GATv2Conv: FusedGATv2Conv, TransformerConv: FusedTransformerConv}
LOOPS = (GATConv, GATv2Conv)


def edges(sources: int = N, targets: int = N, count: int = E) -> torch.Tensor:
    """Random edges in random order, with duplicates and, where possible, self-loops."""
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(size, (count,), generator=generator) for size in (sources, targets)]
    edge_index = torch.stack(rows)
    edge_index[:, :5] = edge_index[:, 5:10]
    edge_index[1, 11:13] = edge_index[0, 11:13] = min(sources, targets) - 2
    return edge_index


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def twins(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A model in float64 and its accelerated copy."""
    model = model.double()
    return model, gf.accelerate(copy.deepcopy(model), quiet=True)


def outputs(model: nn.Module, inputs: list[torch.Tensor], run) -> list[torch.Tensor]:
    """The outputs of `run(model, *inputs)`, and all gradients of a function of the first."""
    model.zero_grad()
    inputs = [x.clone().requires_grad_() for x in inputs]
    results = run(model, *inputs)
    results = list(results) if isinstance(results, tuple) else [results]
    weight = randn(*results[0].shape, seed=5)
    loss = (results[0] * weight).sum() + sum(x.square().sum() for x in results[1:])
    loss.backward()
    grads = [x.grad for x in inputs] + [p.grad for p in model.parameters()]
    return [x.detach() for x in results] + [g for g in grads if g is not None]


def assert_same(model: nn.Module, inputs: list[torch.Tensor], run) -> None:
    theirs, ours = twins(model)
    expected, got = outputs(theirs, inputs, run), outputs(ours, inputs, run)
    assert len(expected) == len(got) > 1
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.fixture
def fused(monkeypatch):
    """Make PyG's own road an error, so that no test passes on it by accident."""

    def refuse(*args, **kwargs):
        raise AssertionError("PyG's own forward ran")

    def arm():
        for kind in LAYERS:
            monkeypatch.setattr(kind, "propagate", refuse)

    return arm


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
    for asked in (True, False):
        expected = theirs(randn(N, F), edge_index, e, return_attention_weights=asked)
        got = ours(randn(N, F), edge_index, e, return_attention_weights=asked)
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
    kept = applied != 0
    torch.testing.assert_close(applied[kept], weights[kept] / 0.6)
    assert 0.4 < kept.double().mean() < 0.8


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
def test_the_fused_road_is_taken(kind, fused):
    conv = gf.accelerate(kind(F, C, heads=H, edge_dim=DE, dropout=0.4), quiet=True)
    fused()
    for _ in range(2):
        conv(torch.randn(N, F), edges(), torch.randn(E, DE)).sum().backward()
        conv.eval()


@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_not_covered_goes_pygs_own_way(kind):
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
    assert _known[wrapped.as_tensor()][1]
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


def test_an_edge_layer_that_is_no_matrix_still_counts():
    edge_index, inputs = edges(), [randn(N, F), randn(E, DE, seed=1)]
    for kind in LAYERS:
        conv = kind(F, C, heads=H, edge_dim=DE)
        conv.lin_edge = nn.Sequential(nn.Linear(DE, H * C), nn.Tanh())
        assert_same(conv, inputs, lambda m, x, e: m(x, edge_index, e))


def test_lazy_layers():
    edge_index = edges()
    for kind in LAYERS:
        conv = gf.accelerate(kind(-1, C, heads=H, edge_dim=-1), quiet=True)
        out = conv(torch.randn(N, F), edge_index, torch.randn(E, DE))
        assert out.shape == (N, H * C)
        assert conv.lin_edge.weight.shape == (H * C, DE)


@pytest.mark.parametrize("kind", LAYERS)
def test_same_object_state_and_class_tree(kind):
    conv = kind(F, C, heads=H, edge_dim=DE)
    before = {name: p.data_ptr() for name, p in conv.state_dict().items()}
    seen = []
    conv.register_forward_hook(lambda *args: seen.append(args))
    ours = gf.accelerate(conv, quiet=True)
    assert ours is conv
    assert type(ours) is LAYERS[kind]
    assert isinstance(ours, kind)
    assert {name: p.data_ptr() for name, p in ours.state_dict().items()} == before
    ours(torch.randn(N, F), edges(), torch.randn(E, DE))
    assert len(seen) == 1
    kind(F, C, heads=H, edge_dim=DE).load_state_dict(ours.state_dict())


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_and_pickles(kind, fused):
    conv = gf.accelerate(kind(F, C, heads=H), quiet=True)
    x, edge_index = torch.randn(N, F), edges()
    expected = conv(x, edge_index)
    file = io.BytesIO()
    torch.save(conv, file)
    file.seek(0)
    copies = [
        copy.deepcopy(conv),
        pickle.loads(pickle.dumps(conv)),
        torch.load(file, weights_only=False),
    ]
    fused()
    for other in copies:
        assert type(other) is LAYERS[kind]
        torch.testing.assert_close(other(x, edge_index), expected, rtol=0, atol=0)


def test_applied_again_it_changes_nothing(capsys):
    model = gf.accelerate(GAT(F, H * C, 2, heads=H))
    assert "replaced 2 of 2 attention layers in GAT" in capsys.readouterr().err
    kinds = [type(m) for m in model.modules()]
    assert [type(m) for m in gf.accelerate(model).modules()] == kinds
    said = capsys.readouterr().err
    assert "replaced 0 of 2" in said
    assert "fused before: convs.0 (FusedGATConv)" in said


class Weighted(GATConv):
    def message(self, x_j, alpha):
        return 2 * alpha.unsqueeze(-1) * x_j


def test_what_is_left_and_why(capsys):
    own = GATConv(F, F)
    own.message = lambda x_j, alpha: x_j
    model = nn.ModuleDict(
        {
            "subclass": Weighted(F, F),
            "own": own,
            "flow": GATv2Conv(F, F, flow="target_to_source"),
            "mean": TransformerConv(F, F, aggr="mean"),
            "gcn": GCNConv(F, F),
            "good": GATConv(F, F),
        }
    )
    gf.accelerate(model)
    said = capsys.readouterr().err
    assert "graphformer: replaced 1 of 5 attention layers in ModuleDict: good (GATConv)" in said
    assert "left subclass (Weighted): a subclass" in said
    assert "left own (GATConv): its own message" in said
    assert "left flow (GATv2Conv): flow is 'target_to_source'" in said
    assert "left mean (TransformerConv): aggr is 'mean'" in said
    assert "GCNConv x 1" in said
    kinds = {name: type(module) for name, module in model.items()}
    assert kinds.pop("good") is FusedGATConv
    assert not set(kinds.values()) & set(LAYERS.values())


def test_said_once_where_a_log_is_on(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="graphformer"):
        gf.accelerate(GCNConv(F, C))
    assert "found no GATConv, GATv2Conv or TransformerConv in GCNConv" in caplog.text
    assert not capsys.readouterr().err


def test_quiet_and_wrong_type(capsys):
    gf.accelerate(GATConv(F, C), quiet=True)
    assert not capsys.readouterr().err
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got str"):
        gf.accelerate("GAT")


@pytest.mark.parametrize("v2", [False, True])
def test_whole_models(v2):
    edge_index = edges()
    gat = GAT(F, H * C, 3, out_channels=2, heads=H, v2=v2, edge_dim=DE, jk="cat", norm="LayerNorm")
    inputs = [randn(N, F), randn(E, DE, seed=1)]
    assert_same(gat, inputs, lambda m, x, e: m(x, edge_index, edge_attr=e))
    chain = Sequential(
        "x, edge_index",
        [
            (GATConv(F, C, heads=H), "x, edge_index -> x"),
            nn.ELU(),
            nn.Linear(H * C, F),
            (TransformerConv(F, C), "x, edge_index -> x"),
        ],
    )
    assert_same(chain, inputs[:1], lambda m, x: m(x, edge_index))


def hetero() -> HeteroData:
    data = HeteroData()
    data["user"].x, data["item"].x = randn(N, F), randn(M, F, seed=2)
    data["user", "buys", "item"].edge_index = edges(N, M)
    data["item", "bought_by", "user"].edge_index = edges(N, M).flip(0)
    return data


def test_heterogeneous_models():
    data = hetero()
    options = {"add_self_loops": False, "heads": H}
    conv = HeteroConv(
        {
            ("user", "buys", "item"): GATConv((F, F), C, **options),
            ("item", "bought_by", "user"): GATv2Conv((F, F), C, **options),
        }
    )
    inputs = [data["user"].x, data["item"].x]

    def run(m, user, item):
        out = m({"user": user, "item": item}, data.edge_index_dict)
        return out["user"], out["item"]

    assert_same(conv, inputs, run)
    whole = to_hetero(GAT((F, F), C, 2, add_self_loops=False), data.metadata(), aggr="sum")
    assert_same(whole, inputs, run)


def test_to_hetero_of_an_accelerated_model():
    data = hetero()
    model = gf.accelerate(GAT((F, F), C, 2, add_self_loops=False), quiet=True).double()
    whole = to_hetero(model, data.metadata())
    assert sum(isinstance(m, FusedGATConv) for m in whole.modules()) == 4
    assert whole(data.x_dict, data.edge_index_dict)["item"].shape == (M, C)


def test_an_adjacency_is_made_once_and_forgotten(monkeypatch):
    from graphformer.pyg import edges as module

    made = []
    plain = module.from_edge_index
    monkeypatch.setattr(
        module, "from_edge_index", lambda *a, **k: made.append(plain(*a, **k)) or made[-1]
    )
    model = gf.accelerate(GAT(F, H * C, 2, heads=H), quiet=True)
    edge_index, x = edges(), torch.randn(N, F)
    with torch.inference_mode():
        model(x, edge_index)
    for _ in range(3):
        model(x, edge_index).sum().backward()
    assert len(made) == 1
    edge_index[:, 0] = edge_index[:, 1]
    theirs = GAT(F, H * C, 2, heads=H)
    theirs.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x, edge_index), theirs(x, edge_index), rtol=1e-4, atol=1e-5)
    assert len(made) == 2
    number, gone = len(_known), weakref.ref(edge_index)
    del edge_index
    gc.collect()
    assert gone() is None
    assert len(_known) < number


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


def test_the_same_loss_curve():
    torch.manual_seed(7)
    theirs, ours = twins(GAT(F, H * C, 2, out_channels=4, heads=H))
    x, edge_index, y = randn(N, F), edges(), torch.arange(N) % 4
    curves = []
    for model in (theirs, ours):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        curve = []
        for _ in range(31):
            loss = nn.functional.cross_entropy(model(x, edge_index), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            curve.append(loss.detach())
        curves.append(torch.stack(curve))
    torch.testing.assert_close(*curves, rtol=1e-7, atol=1e-7)
    assert curves[0][-1] < 0.7 * curves[0][0]


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

    mine, theirs = (
        getattr(module, name)(5, 7, heads=3, edge_dim=2)
        for module in (graphformer.pyg, torch_geometric.nn)
    )
    theirs.load_state_dict(mine.state_dict())
    x, edge_index, edge_attr = torch.randn(11, 5), torch.randint(11, (2, 31)), torch.randn(31, 2)
    torch.testing.assert_close(mine(x, edge_index, edge_attr), theirs(x, edge_index, edge_attr))
