"""The Transformer: its stack, its adjacencies, its batches."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers.awkward import AWKWARD
from torch import nn

import graphformer as gf
from graphformer.nn import ALiBi, MixtureOfExperts, RelativeBias, Rotary


def make(**options):
    torch.manual_seed(3)
    return gf.Transformer(dim=10, depth=3, num_heads=5, **options)


@pytest.mark.parametrize("norm_first", [True, False])
def test_output_is_that_of_the_blocks(norm_first):
    model, x, adjacency = make(norm_first=norm_first), torch.randn(7, 10), gf.window(7, 1)
    expected = x
    for block in model.blocks:
        expected = block(expected, adjacency)
    expected = nn.functional.layer_norm(expected, (10,)) if norm_first else expected
    torch.testing.assert_close(model(x, adjacency), expected)


def test_one_adjacency_per_block():
    model, x = make(), torch.randn(7, 10)
    several = [gf.window(7, 1), gf.complete(7), gf.causal(7)]
    expected = x
    for block, adjacency in zip(model.blocks, several, strict=True):
        expected = block(expected, adjacency)
    torch.testing.assert_close(model(x, several), model.norm(expected))
    with pytest.raises(ValueError, match="adjacency: got 2 adjacencies, expected .* 3 blocks"):
        model(x, several[:2])


def test_the_same_weights_accept_any_adjacency():
    model = make(num_kv_heads=1)
    for make_adjacency in AWKWARD.values():
        adjacency = make_adjacency()
        m, n = adjacency.shape
        if m == n:
            out = model(torch.randn(m, 10), adjacency)
            assert out.shape == (m, 10)
            out.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "rule", [gf.complete, gf.causal, lambda n: gf.window(n, 2)], ids=["complete", "causal", "band"]
)
def test_a_packed_batch_is_its_samples(rule):
    model, lengths = make().double(), [3, 7, 0, 3, 1]
    x = torch.randn(14, 10, dtype=torch.float64)
    alone = torch.cat([model(part, rule([len(part)])) for part in x.split(lengths)])
    torch.testing.assert_close(model(x, rule(lengths)), alone)


def test_round_trips():
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    expected = model(x, adjacency)
    other = make()
    for p in other.parameters():
        nn.init.zeros_(p)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x, adjacency), expected)


def test_options_reach_every_attention():
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    bias = torch.randn(adjacency.num_edges)
    assert not torch.allclose(model(x, adjacency, bias=bias), model(x, adjacency))
    with pytest.raises(ValueError, match="backend: got"):
        model(x, adjacency, backend="nothing")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    model, x, adjacency = make(), torch.randn(7, 10), gf.window(7, 1)
    for backend in ("reference", "sdpa", "scatter", "auto"):
        with torch.autocast("cpu", dtype):
            out = model(x, adjacency, backend=backend)
        out.sum().backward()
        torch.testing.assert_close(out.float(), model(x, adjacency), rtol=0.1, atol=0.1)


RELATIVE = {
    "rotary": lambda: Rotary(2),
    "alibi": lambda: ALiBi(5),
    "t5": lambda: RelativeBias(5, num_buckets=6, max_distance=7),
}


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.parametrize(
    "rule", [gf.complete, gf.causal, lambda n: gf.window(n, 2)], ids=["complete", "causal", "band"]
)
def test_positions_reach_every_attention(name, rule):
    """By default those in the sample; packed as alone; on edges as by rule; moved, the same."""
    model, lengths = make(position_encoding=RELATIVE[name]()).double(), [3, 7, 1, 3]
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(14, 10, dtype=torch.float64)
    pos = torch.cat([torch.arange(n) for n in lengths])
    adjacency = rule(lengths)
    out = model(x, adjacency)
    torch.testing.assert_close(model(x, adjacency, pos), out)
    torch.testing.assert_close(model(x, adjacency, pos + 101), out, rtol=1e-4, atol=1e-5)
    alone = torch.cat([model(part, rule([len(part)])) for part in x.split(lengths)])
    torch.testing.assert_close(alone, out)
    torch.testing.assert_close(model(x, adjacency.to_csr(), pos), out)
    torch.testing.assert_close(model(x, adjacency.to_csr()), out, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x, adjacency, pos.flip(0)), out)


def test_a_bias_is_refused_with_a_position_bias():
    model, adjacency = make(position_encoding=ALiBi(5)), gf.complete(7)
    with pytest.raises(
        ValueError, match="bias: got a value, expected none, for the Transformer's ALiBi"
    ):
        model(torch.randn(7, 10), adjacency, bias=torch.zeros(49))


@pytest.mark.parametrize("name", ["bais", "sources", "edge_attrs", "return_weights"])
def test_unknown_options_are_refused_by_name(name):
    match = rf"forward\(\) got an unexpected option '{name}'"
    with pytest.raises(TypeError, match=match):
        make()(torch.randn(7, 10), gf.complete(7), **{name: None})
    with pytest.raises(TypeError, match="did you mean 'bias'"):
        make()(torch.randn(7, 10), gf.complete(7), bais=None)


def test_attention_and_mlp_of_each_block():
    model = make(mlp=lambda i: nn.Identity() if i == 0 else MixtureOfExperts(10, num_experts=3))
    assert isinstance(model.blocks[0].mlp, nn.Identity)
    assert isinstance(model.blocks[2].mlp, MixtureOfExperts)
    narrow = make(attention=lambda i: gf.nn.MultiHeadAttention(10, 2, head_dim=3 + i))
    assert narrow(torch.randn(7, 10), gf.complete(7)).shape == (7, 10)


@pytest.mark.parametrize("source_dim", [10, 13])
def test_a_source_is_attended_to_by_every_block(source_dim):
    model = make(source_dim=source_dim)
    x, source = torch.randn(7, 10), torch.randn(11, source_dim)
    own, across = gf.causal([5, 2]), gf.complete([5, 2], [8, 3])
    out = model(x, own, source=source, source_adjacency=across)
    expected = x
    for block in model.blocks:
        expected = block(expected, own, source, across)
    torch.testing.assert_close(out, model.norm(expected))
    changed = source.clone()
    changed[9] += 1  # of the second sample
    again = model(x, own, source=changed, source_adjacency=across)
    assert torch.equal(again[:5], out[:5])
    assert not torch.allclose(again[5:], out[5:])


def test_missing_and_unexpected_sources_are_refused():
    x, adjacency = torch.randn(7, 10), gf.complete(7)
    with pytest.raises(ValueError, match="source, source_adjacency: got None, expected both"):
        make(source_dim=10)(x, adjacency)
    with pytest.raises(ValueError, match="gated_cross_attention: got True without source_dim"):
        make(gated_cross_attention=True)
    with pytest.raises(ValueError, match="gated: got True for a post-norm block"):
        make(gated_cross_attention=True, source_dim=10, norm_first=False)
    with pytest.raises(ValueError, match="source: got a tensor, .* with source_dim"):
        make()(x, adjacency, source=x, source_adjacency=adjacency)


@pytest.mark.parametrize("source_dim", [None, 13])
@pytest.mark.parametrize("recomputes", [True, "attention", 2, 3])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("edges", [gf.causal(7), gf.window(7, 1)])
def test_checkpointing_gives_equal_outputs_and_gradients(edges, norm_first, recomputes, source_dim):
    options = {
        "source_dim": source_dim, "norm_first": norm_first, "dropout": 0.3,
        "attention_dropout": 0.2, "position_encoding": RELATIVE["t5"](),
    }  # fmt: skip
    stored, anew = make(**options), make(activation_checkpointing=recomputes, **options)
    anew.load_state_dict(stored.state_dict())
    x, source = torch.randn(7, 10), torch.randn(11, 13)
    across = {"source": source, "source_adjacency": gf.complete(7, 11)} if source_dim else {}
    out, *grads = outputs_and_gradients(stored, x, edges, across)
    again, *others = outputs_and_gradients(anew, x, edges, across)
    assert torch.equal(again, out)
    for a, b in zip(others, grads, strict=True):
        assert torch.equal(a, b)


def outputs_and_gradients(model, x, edges, across):
    torch.manual_seed(5)
    out = model(x, edges, **across)
    out.square().sum().backward()
    return out, *(p.grad for p in model.parameters())


@pytest.mark.parametrize("layout", ["parallel", "parallel_shared_norm", "sandwich"])
def test_checkpointing_of_attention_in_other_layouts(layout):
    stored = make(layout=layout, dropout=0.3)
    anew = make(layout=layout, dropout=0.3, activation_checkpointing="attention")
    anew.load_state_dict(stored.state_dict())
    x = torch.randn(7, 10)
    for a, b in zip(
        outputs_and_gradients(anew, x, gf.causal(7), {}),
        outputs_and_gradients(stored, x, gf.causal(7), {}),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("recomputes", "blocks", "attentions"),
    [
        (True, [0, 1, 2], [0, 1, 2]),
        (2, [0, 2], [0, 2]),
        ("attention", [], [0, 1, 2]),
        (3, [0], [0]),
    ],
)
def test_checkpointing_recomputes(recomputes, blocks, attentions):
    model, calls = make(activation_checkpointing=recomputes), []
    # Before a module, for what comes after the last stored tensor is not computed again.
    for number, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, i=number: calls.append(("block", i)))
        block.attention.register_forward_pre_hook(lambda *_, i=number: calls.append(("own", i)))
    out = model(torch.randn(7, 10), gf.complete(7))
    calls.clear()
    out.sum().backward()
    assert sorted(calls) == sorted(
        [("block", i) for i in blocks] + [("own", i) for i in attentions]
    )
    out = model.eval()(torch.randn(7, 10), gf.complete(7))
    calls.clear()
    out.sum().backward()
    assert not calls


@pytest.mark.parametrize("value", [0, -1, "block", 1.5, None])
def test_wrong_checkpointing_is_refused(value):
    with pytest.raises(ValueError, match=r"activation_checkpointing: got .*, expected True, False"):
        make(activation_checkpointing=value)
    model = make()
    with pytest.raises(ValueError, match="activation_checkpointing: got"):
        model.activation_checkpointing = value
    assert model.activation_checkpointing is False


def test_old_names_of_arguments_warn():
    with pytest.warns(FutureWarning, match="relative of .* is now called position_encoding"):
        model = make(relative=ALiBi(5))
    assert isinstance(model.position_encoding, ALiBi)
    with pytest.warns(FutureWarning, match="checkpoint of .*activation_checkpointing"):
        assert make(checkpoint=True).activation_checkpointing


def test_old_names_of_exports_warn():
    for old, new in (("KeyValues", "KVCache"), ("EdgeOptions", "EdgeEncoder")):
        with pytest.warns(FutureWarning, match=old):
            assert getattr(gf.nn, old) is getattr(gf.nn, new)


def test_padded_batches_are_refused():
    with pytest.raises(ValueError, match=r"x: got shape \[2, 3, 10\], expected \[N, C\]; pack"):
        make()(torch.randn(2, 3, 10), gf.complete([3, 3]))
