"""Patterns over content against dense masks made by hand, and their properties."""

import pickle

import pytest
import torch
from helpers.content import PATTERNS, adjacency_of, dense_attention, mask_by_hand, mask_of, qkv
from hypothesis import given, settings
from hypothesis import strategies as st

import graphformer as gf
from graphformer.adjacency import ContentAdjacency, RowEdges, TiledEdges
from graphformer.patterns import LSH, Causal, Complete, NearestNeighbors, TopBlocks, Window
from graphformer.patterns.content.lsh_hash import hashed
from graphformer.patterns.serialization import pattern_config, pattern_from_config

LENGTHS = [(17,), (1,), (7, 0, 11, 7), (1, 1, 2)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_edges_outputs_and_gradients_are_those_of_a_mask_made_by_hand(
    pattern, lengths, value_width
):
    inputs = [x.requires_grad_() for x in qkv(lengths, value_width=value_width)]
    q, k, v = inputs
    adjacency = adjacency_of(pattern, lengths)
    expected_mask = mask_by_hand(pattern, q.detach(), k.detach(), lengths)
    assert torch.equal(mask_of(adjacency.select(q, k), q.shape[1]), expected_mask)
    out = gf.attention(q, k, v, adjacency)
    expected = dense_attention(q, k, v, expected_mask, q.shape[2] ** -0.5)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    gradients = torch.autograd.grad((out * cotangent).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * cotangent).sum(), inputs)
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_batches_without_nodes(pattern, lengths, value_width):
    q, k, v = qkv(lengths, value_width=value_width)
    assert gf.attention(q, k, v, adjacency_of(pattern, lengths)).shape == (0, 6, value_width)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_mask_of_one_sample_is_that_of_the_selected_edges(pattern):
    q, k, _ = qkv((23,))
    expected = mask_of(adjacency_of(pattern, (23,)).select(q, k), q.shape[1])
    assert torch.equal(pattern.mask(q, k), expected)
    assert torch.equal(pattern.mask(q, k, 19), expected[:, 19:])


@pytest.mark.parametrize("backend", ["reference", "sdpa", "cpu", "scatter"])
@pytest.mark.parametrize(
    "pattern",
    [TopBlocks(3, 2), TopBlocks(3, 2, share_heads=True), LSH(4, 2, window=3), NearestNeighbors(2)],
)
def test_every_backend_gives_the_same_result(pattern, backend):
    q, k, v = qkv((13, 5), dtype=torch.float32)
    adjacency = adjacency_of(pattern, (13, 5))
    expected = gf.attention(q, k, v, adjacency, scale=0.7)
    out = gf.attention(q, k, v, adjacency, scale=0.7, backend=backend)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    "pattern",
    [TopBlocks(3, 2), TopBlocks(3, 2, share_heads=True), LSH(4, 2, window=3), LSH(4, window=3)],
)
def test_chunks_of_tiles_change_nothing(pattern, value_width, monkeypatch):
    inputs = [x.requires_grad_() for x in qkv((29, 7), value_width=value_width)]
    adjacency = adjacency_of(pattern, (29, 7))
    expected = gf.attention(*inputs, adjacency)
    gradients = torch.autograd.grad(expected.square().sum(), inputs)
    monkeypatch.setattr("graphformer.ops.content.tiled._NUMBERS", 1)
    monkeypatch.setattr("graphformer.ops.content.flash_tiles._NUMBERS", 1)
    monkeypatch.setattr("graphformer.patterns.content.nearest_neighbors._LOGITS", 1)
    out = gf.attention(*inputs, adjacency)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), inputs), gradients)


def test_rotations_are_drawn_anew_in_training_only():
    q, k, _ = qkv((29,))
    adjacency = adjacency_of(LSH(8, redraw=True), (29,))
    fixed = adjacency_of(LSH(8), (29,)).select(q, k)
    with_gradient = q.clone().requires_grad_()

    def edges(q):
        return mask_of(adjacency.select(q, k), 6)

    assert torch.equal(edges(q), mask_of(fixed, 6))
    torch.manual_seed(0)
    first, second = edges(with_gradient), edges(with_gradient)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(edges(with_gradient), first)
    with torch.no_grad():
        assert torch.equal(edges(with_gradient), mask_of(fixed, 6))


def test_lists_of_many_edges_are_tiles(monkeypatch):
    q, k, v = qkv((29, 7))
    adjacency = adjacency_of(LSH(4, 2, window=3, causal=True), (29, 7))
    listed = adjacency.select(q, k)
    assert isinstance(listed, RowEdges)
    monkeypatch.setattr("graphformer.adjacency.content.spans.MOST_EDGES", 29)
    tiles = adjacency.select(q, k)
    assert isinstance(tiles, TiledEdges)
    assert tiles.num_head_edges == listed.num_head_edges
    torch.testing.assert_close(gf.attention(q, k, v, tiles), gf.attention(q, k, v, listed))


@pytest.mark.parametrize("heads", [1, 6])
@pytest.mark.parametrize(
    "pattern",
    [
        TopBlocks(3, 2),
        TopBlocks(3, 2, share_heads=True),
        LSH(4, 2, window=3),
        LSH(4, window=3),
        NearestNeighbors(3, causal=True),
    ],
)
def test_biases_by_offset_are_those_of_listed_edges(pattern, heads, value_width):
    inputs = [x.requires_grad_() for x in qkv((13, 5), value_width=value_width)]
    q, k, _ = inputs
    table = torch.randn(7, heads, dtype=torch.float64, requires_grad=True)
    bias = gf.ops.OffsetBias(table, slope=torch.rand(heads, dtype=torch.float64))
    adjacency = adjacency_of(pattern, (13, 5))
    out = gf.attention(*inputs, adjacency, bias=bias)
    expected = gf.attention(*inputs, adjacency.select(q, k).to_csr(), bias=bias)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    found, listed = (
        torch.autograd.grad((x * weight).sum(), (*inputs, table)) for x in (out, expected)
    )
    torch.testing.assert_close(found, listed)
    with pytest.raises(ValueError, match="bias: got a table of 5 heads"):
        gf.attention(*inputs, adjacency, bias=gf.ops.OffsetBias(table[:, :1].expand(-1, 5)))


@pytest.mark.parametrize("pattern", [TopBlocks(3, 2), LSH(4, 2, window=3), NearestNeighbors(2)])
def test_dropout_keeps_the_mean(pattern, value_width):
    q, k, v = qkv((31,), value_width=value_width, dtype=torch.float32)
    adjacency = adjacency_of(pattern, (31,))
    torch.manual_seed(0)
    ones = torch.ones_like(v)
    outs = torch.stack([gf.attention(q, k, ones, adjacency, dropout=0.5) for _ in range(97)])
    assert abs(outs.mean() - 1) < 0.05
    assert outs.std() > 0.1


@given(
    st.lists(st.integers(0, 19), min_size=1, max_size=4).filter(any),
    st.sampled_from(PATTERNS),
    st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_edges_stay_within_samples_and_within_the_counts(lengths, pattern, seed):
    q, k, _ = qkv(lengths, seed=seed)
    mask = mask_of(adjacency_of(pattern, tuple(lengths)).select(q, k), q.shape[1])
    sample = torch.repeat_interleave(torch.tensor(lengths))
    assert not mask[:, sample.unsqueeze(1) != sample].any()
    if pattern.causal:
        assert not mask.triu(1).any()
    count = mask.sum(-1)
    if isinstance(pattern, NearestNeighbors):
        position = gf.causal(lengths).to_mask().sum(1)
        size = gf.complete(lengths).to_mask().sum(1)
        expected = (position if pattern.causal else size).clamp(max=pattern.k)
        assert torch.equal(count, expected.expand_as(count))
    elif isinstance(pattern, TopBlocks):
        limits = torch.tensor(pattern.k).expand(k.shape[1]).repeat_interleave(3).unsqueeze(1)
        assert (count <= pattern.block * limits).all()
        assert mask.diagonal(dim1=1, dim2=2).all()
    else:
        assert (count <= pattern.window * pattern.rounds).all()


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p.causal], ids=str)
def test_causal_edges_do_not_depend_on_later_nodes(pattern):
    q, k, _ = qkv((29,))
    mask = mask_of(adjacency_of(pattern, (29,)).select(q, k), q.shape[1])
    for size in (1, 11, 28):
        prefix = mask_of(adjacency_of(pattern, (size,)).select(q[:size], k[:size]), q.shape[1])
        assert torch.equal(prefix, mask[:, :size, :size])


def test_nearest_neighbors_follow_a_permutation_of_the_nodes():
    q, k, v = qkv((19,))
    order = torch.randperm(19)
    adjacency = adjacency_of(NearestNeighbors(4), (19,))
    expected = gf.attention(q, k, v, adjacency)[order]
    torch.testing.assert_close(gf.attention(q[order], k[order], v[order], adjacency), expected)


@pytest.mark.parametrize("pattern", [TopBlocks(3, 2), LSH(4, 2, window=3), NearestNeighbors(2)])
def test_other_samples_of_a_batch_change_nothing(pattern):
    q, k, v = qkv((13, 7, 13))
    out = gf.attention(q, k, v, adjacency_of(pattern, (13, 7, 13)))
    alone = gf.attention(q[13:20], k[13:20], v[13:20], adjacency_of(pattern, (7,)))
    torch.testing.assert_close(out[13:20], alone)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_patterns_are_values_that_can_be_stored(pattern):
    assert pattern_from_config(pattern_config(pattern)) == pattern
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert hash(pattern) == hash(pickle.loads(pickle.dumps(pattern)))


def test_intersection_with_the_triangle_is_causal():
    assert TopBlocks(4, 2) & Causal() == TopBlocks(4, 2, causal=True)
    assert Complete() & LSH(4) == LSH(4)
    for compose in (lambda a, b: a | b, lambda a, b: a & b):
        for pair in ((LSH(4), Window(3)), (Window(3), LSH(4))):
            with pytest.raises(ValueError, match="made from content alone"):
                compose(*pair)


@pytest.mark.parametrize("causal", [False, True])
def test_targets_without_a_source_in_any_round_get_zeros(causal):
    q = torch.ones(3, 2, 5, dtype=torch.float64, requires_grad=True)
    adjacency = adjacency_of(LSH(2, 3, window=2, causal=causal), (2, 1))
    out = gf.attention(q, -q.detach(), q, adjacency)
    (gradient,) = torch.autograd.grad(out.sum(), q)
    assert not out.any()
    assert not gradient.any()


def test_edges_are_unknown_before_selection():
    adjacency = adjacency_of(TopBlocks(3, 2), (7, 5))
    assert isinstance(adjacency, ContentAdjacency)
    assert adjacency.shape == (12, 12)
    assert "TopBlocks" in repr(adjacency)
    unknown = [
        lambda: adjacency.num_edges, lambda: adjacency.edge_index, lambda: adjacency.T,
        adjacency.to_mask, adjacency.with_self_loops,
        lambda: adjacency.contains(torch.tensor([0]), torch.tensor([0])),
    ]  # fmt: skip
    for access in unknown:
        with pytest.raises(ValueError, match="use adjacency.select"):
            access()


def test_values_of_edges_are_refused_before_selection():
    q, k, v = qkv((12,))
    adjacency = adjacency_of(TopBlocks(3, 2), (12,))
    for options in (
        {"bias": torch.zeros(3)}, {"edge_weight": torch.ones(3)}, {"return_weights": True}
    ):  # fmt: skip
        with pytest.raises(ValueError, match="known after their selection"):
            gf.attention(q, k, v, adjacency, **options)
    edges = adjacency.select(q, k)
    assert isinstance(edges, TiledEdges)
    out, weights = gf.attention(q, k, v, edges, return_weights=True)
    assert weights.shape == (edges.num_edges, q.shape[1])
    torch.testing.assert_close(out, gf.attention(q, k, v, adjacency))


def test_numbers_of_queries_and_keys_are_checked():
    q, k, _ = qkv((12,))
    with pytest.raises(ValueError, match="expected 12 of both"):
        adjacency_of(LSH(4), (12,)).select(q, k[:11])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LSH(3), "buckets"),
        (lambda: LSH(4, 0), "rounds"),
        (lambda: LSH(4, window=0), "window"),
        (lambda: NearestNeighbors(0), "k"),
        (lambda: NearestNeighbors(2.5), "k"),
        (lambda: TopBlocks(0, 1), "block"),
        (lambda: TopBlocks(4, 1, first=1), "first, nearest"),
        (lambda: TopBlocks(4, (3, 1), first=1), "first, nearest"),
        (lambda: TopBlocks(4, ()), "k"),
        (lambda: TopBlocks(4, 2.0), "k"),
        (lambda: TopBlocks(4, (2, "3")), "k"),
        (lambda: TopBlocks(4, (2, 0)), "k"),
        (lambda: TopBlocks(4, 2, nearest=2), "first, nearest"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        make()


def test_a_number_of_blocks_for_each_key_head_needs_as_many_heads():
    q, k, _ = qkv((7,))
    with pytest.raises(ValueError, match="k: got 3 numbers, expected one for each of 2 key heads"):
        TopBlocks(3, (1, 2, 3)).select(q, k, (7,))


@pytest.mark.parametrize("rounds", [1, 3])
def test_both_forms_of_the_hash_give_the_same_buckets(rounds, monkeypatch):
    x = torch.randn(11, 3, 7, generator=torch.Generator().manual_seed(0))
    x[0], x[1], x[2, 1], x[3, 2, 4] = 0.0, -0.0, torch.nan, torch.inf
    found = hashed(x, rounds, 10, 0)
    assert found.shape == (rounds, 3, 11)
    monkeypatch.setattr("graphformer.patterns.content.lsh_hash._NUMBERS", 1)  # a node at a time
    assert torch.equal(hashed(x, rounds, 10, 0), found)
    monkeypatch.setattr(RowEdges, "is_supported", staticmethod(lambda q: False))
    assert torch.equal(hashed(x, rounds, 10, 0), found)
