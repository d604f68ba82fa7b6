"""Models over patterns made from content: any position encoding, decoding, training, compiling."""

import pytest
import torch

import graphformer as gf
from graphformer import models
from graphformer.data.batch import Batch, pack_tokens
from graphformer.models.generation import decoding_options
from graphformer.nn.record import record_attention
from graphformer.patterns import (
    LSH,
    Causal,
    Complete,
    NearestNeighbors,
    PerHead,
    PerLayer,
    TopBlocks,
    Window,
)

CAUSAL = [
    NearestNeighbors(3, causal=True),
    TopBlocks(3, 2, causal=True),
    LSH(2, 2, window=4, causal=True),
    LSH(2, window=5, causal=True, shared=True),
    PerLayer((Window(3, causal=True), TopBlocks(2, 3, causal=True, first=1))),
]


def _model(**options):
    torch.manual_seed(0)
    sizes = {"dim": 12, "depth": 2, "num_heads": 6, "num_kv_heads": 2, "max_length": 61}
    return models.language_model(19, **(sizes | options)).eval()


def _batch(lengths=(17, 5, 1)):
    generator = torch.Generator().manual_seed(1)
    return pack_tokens([torch.randint(19, (n,), generator=generator).tolist() for n in lengths])


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
@pytest.mark.parametrize(
    ("pattern", "same"),
    [
        (NearestNeighbors(64, causal=True), Causal()),
        (TopBlocks(3, 64, causal=True), Causal()),
        (TopBlocks(3, 64), Complete()),
        (NearestNeighbors(64), Complete()),
    ],
)
def test_patterns_that_select_all_nodes_equal_the_dense_ones(pattern, same, positions):
    model, batch = _model(positions=positions), _batch()
    torch.testing.assert_close(model(batch, pattern), model(batch, same), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("pattern", CAUSAL, ids=str)
def test_decoding_with_a_cache_gives_the_tokens_of_the_full_pass(pattern, positions):
    model = _model(positions=positions).with_adjacency(pattern)
    prompts = [[3, 7, 3, 7, 3, 7, 2], [5], [1, 2, 3, 4, 5, 6, 7]]
    for options in ({"temperature": 0}, {"temperature": 0, "num_beams": 2}):
        expected = model.generate(prompts, max_new_tokens=11, cache=False, **options)
        assert model.generate(prompts, max_new_tokens=11, **options) == expected
    alone = model.generate(prompts[0], max_new_tokens=23, temperature=0)  # with prompt lookup
    assert alone == model.generate(prompts[0], max_new_tokens=23, temperature=0, cache=False)
    assert decoding_options(model, pattern)["cache"]


def test_patterns_that_are_not_causal_are_refused_for_generation():
    model = _model()
    with pytest.raises(ValueError, match="a causal pattern made from content"):
        model.generate([1, 2], max_new_tokens=3, adjacency=TopBlocks(3, 2))
    with pytest.raises(ValueError, match="tokens attend to later ones"):
        decoding_options(model, TopBlocks(3, 2))


@pytest.mark.parametrize("checkpointing", [True, "attention"])
@pytest.mark.parametrize(
    "pattern", [*CAUSAL[:3], LSH(4, window=2, causal=True, redraw=True)], ids=str
)
def test_recomputed_activations_give_the_same_gradients(pattern, checkpointing):
    gradients = []
    for value in (False, checkpointing):
        model = _model(activation_checkpointing=value, dropout=0.0).train()
        torch.manual_seed(0)  # of rotations that are drawn anew
        model(_batch(), pattern).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("pattern", CAUSAL[:3], ids=str)
def test_compiled_models_select_edges_eagerly(pattern):
    model, batch = _model(positions="rotary"), _batch()
    expected = model(batch, pattern)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(batch, pattern), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pattern", CAUSAL[:4], ids=str)
def test_a_cache_of_half_precision_has_the_logits_of_the_full_pass(pattern, dtype):
    torch.manual_seed(0)
    q, k, v = 60 * torch.randn(17, 6, 64), 60 * torch.randn(17, 2, 64), torch.randn(17, 2, 3)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    rows = Batch(x=torch.zeros(17), lengths=(17,), num_nodes=17)
    expected = gf.attention(q, k, v, pattern(rows))
    rows = Batch(x=torch.zeros(13), lengths=(13,), num_nodes=13)
    cache = gf.nn.ContentKVCache((13,), pattern)
    cache.attend(q[:13], k[:13], v[:13], pattern(rows))
    out = cache.attend(q[13:], k[13:], v[13:], pattern(rows))
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected[13:], atol=0.01, rtol=0.01)


@pytest.mark.parametrize("pattern", CAUSAL, ids=str)
def test_autocast(pattern):
    model, batch = _model(), _batch()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch, pattern).isfinite().all()


def test_heads_and_weights_of_unknown_edges_are_refused():
    model, batch = _model(), _batch()
    with pytest.raises(ValueError, match="differ between heads"):
        model(batch, PerHead((TopBlocks(3, 2),) * 6))
    with (
        record_attention(model),
        pytest.raises(ValueError, match="known after their selection"),
    ):
        model(batch, TopBlocks(3, 2))
    with pytest.raises(ValueError, match="adjacency.select"):
        gf.nn.GraphAttention(12, 2)(torch.zeros(7, 12), TopBlocks(3, 2))


def test_models_keep_their_pattern(tmp_path):
    model = _model().with_adjacency(TopBlocks(3, 2, causal=True))
    assert model.adjacency == TopBlocks(3, 2, causal=True)
    batch = _batch()
    torch.testing.assert_close(model(batch), model(batch, TopBlocks(3, 2, causal=True)))
