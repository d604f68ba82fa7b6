"""Patterns over content against dense masks made by hand, and their properties."""

import pickle

import pytest
import torch
from helpers.content import dense_attention, mask_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

import graphformer as gf
from graphformer.adjacency import ContentAdjacency, HeadEdges, RowEdges, TiledEdges
from graphformer.data.batch import Batch
from graphformer.patterns import LSH, Causal, Complete, NearestNeighbors, TopBlocks, Window
from graphformer.patterns.serialization import pattern_config, pattern_from_config

PATTERNS = [
    NearestNeighbors(3),
    NearestNeighbors(3, causal=True),
    NearestNeighbors(97),
    TopBlocks(3, 2),
    TopBlocks(5, 2, causal=True),
    TopBlocks(3, 4, first=1, nearest=2),
    TopBlocks(3, 3, causal=True, first=1, nearest=2),
    TopBlocks(53, 1, causal=True),
    TopBlocks(3, 2, share_heads=True),
    TopBlocks(3, 3, causal=True, first=1, share_heads=True),
    LSH(4, window=3),
    LSH(4, window=3, causal=True),
    LSH(2, 3, window=5),
    LSH(6, 2, window=4, causal=True, shared=True),
    LSH(4, 3, window=2, shared=True, seed=1),
]
LENGTHS = [(17,), (1,), (7, 0, 11, 7), (1, 1, 2)]


def _qkv(lengths, heads=(6, 2), width=5, value_width=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    shapes = [(count, heads[0], width), (count, heads[1], width), (count, heads[1], value_width)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def _adjacency(pattern, lengths):
    return pattern(Batch(x=torch.zeros(sum(lengths)), lengths=lengths, num_nodes=sum(lengths)))


def _mask(edges, heads):
    edges = edges if isinstance(edges, HeadEdges) else edges.head_edges
    mask = torch.zeros(heads, *edges.shape, dtype=torch.bool)
    source, target = edges.edge_index
    mask[:, target, source] = edges.heads.T
    return mask


@pytest.fixture(params=["lists", "flash", "dense"])
def value_width(request, monkeypatch):
    """Width of the values: tiles run by flash attention where it is that of the queries.

    Without lists, LSH gives tiles and NearestNeighbors the edges of each head, as on a GPU.
    """
    if request.param != "lists":
        monkeypatch.setattr(RowEdges, "is_supported", staticmethod(lambda q: False))
    return 5 if request.param == "flash" else 3


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_edges_outputs_and_gradients_are_those_of_a_mask_made_by_hand(
    pattern, lengths, value_width
):
    inputs = [x.requires_grad_() for x in _qkv(lengths, value_width=value_width)]
    q, k, v = inputs
    adjacency = _adjacency(pattern, lengths)
    expected_mask = mask_by_hand(pattern, q.detach(), k.detach(), lengths)
    assert torch.equal(_mask(adjacency.select(q, k), q.shape[1]), expected_mask)
    out = gf.attention(q, k, v, adjacency)
    expected = dense_attention(q, k, v, expected_mask, q.shape[2] ** -0.5)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    gradients = torch.autograd.grad((out * cotangent).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * cotangent).sum(), inputs)
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_batches_without_nodes(pattern, lengths):
    q, k, v = _qkv(lengths)
    assert gf.attention(q, k, v, _adjacency(pattern, lengths)).shape == (0, 6, 3)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_mask_of_one_sample_is_that_of_the_selected_edges(pattern):
    q, k, _ = _qkv((23,))
    expected = _mask(_adjacency(pattern, (23,)).select(q, k), q.shape[1])
    assert torch.equal(pattern.mask(q, k), expected)
    assert torch.equal(pattern.mask(q, k, 19), expected[:, 19:])


@pytest.mark.parametrize("backend", ["reference", "sdpa", "cpu", "scatter"])
@pytest.mark.parametrize(
    "pattern",
    [TopBlocks(3, 2), TopBlocks(3, 2, share_heads=True), LSH(4, 2, window=3), NearestNeighbors(2)],
)
def test_every_backend_gives_the_same_result(pattern, backend):
    q, k, v = _qkv((13, 5), dtype=torch.float32)
    adjacency = _adjacency(pattern, (13, 5))
    expected = gf.attention(q, k, v, adjacency, scale=0.7)
    out = gf.attention(q, k, v, adjacency, scale=0.7, backend=backend)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    "pattern",
    [TopBlocks(3, 2), TopBlocks(3, 2, share_heads=True), LSH(4, 2, window=3), LSH(4, window=3)],
)
def test_chunks_of_tiles_change_nothing(pattern, value_width, monkeypatch):
    inputs = [x.requires_grad_() for x in _qkv((29, 7), value_width=value_width)]
    adjacency = _adjacency(pattern, (29, 7))
    expected = gf.attention(*inputs, adjacency)
    gradients = torch.autograd.grad(expected.square().sum(), inputs)
    monkeypatch.setattr("graphformer.ops.content.tiled._NUMBERS", 1)
    monkeypatch.setattr("graphformer.ops.content.flash_tiles._NUMBERS", 1)
    monkeypatch.setattr("graphformer.patterns.content.nearest_neighbors._LOGITS", 1)
    out = gf.attention(*inputs, adjacency)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), inputs), gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_half_precision_is_that_of_a_mask_made_by_hand(pattern, dtype, value_width):
    inputs = [x.requires_grad_() for x in _qkv((17, 5), value_width=value_width, dtype=dtype)]
    q, k, _ = inputs
    out = gf.attention(*inputs, _adjacency(pattern, (17, 5)))
    precise = [x.detach().double().requires_grad_() for x in inputs]
    mask = _mask(_adjacency(pattern, (17, 5)).select(q, k), 6)  # of the rounded numbers
    expected = dense_attention(*precise, mask, q.shape[2] ** -0.5)
    assert out.dtype == dtype
    error = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), expected, rtol=error, atol=error)
    cotangent = torch.randn_like(out)
    found = torch.autograd.grad((out * cotangent).sum(), inputs)
    gradients = torch.autograd.grad((expected * cotangent.double()).sum(), precise)
    for x, y in zip(found, gradients, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=4 * error, atol=4 * error)


def test_rotations_are_drawn_anew_in_training_only():
    q, k, _ = _qkv((29,))
    adjacency = _adjacency(LSH(8, redraw=True), (29,))
    fixed = _adjacency(LSH(8), (29,)).select(q, k)
    with_gradient = q.clone().requires_grad_()

    def edges(q):
        return _mask(adjacency.select(q, k), 6)

    assert torch.equal(edges(q), _mask(fixed, 6))
    torch.manual_seed(0)
    first, second = edges(with_gradient), edges(with_gradient)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(edges(with_gradient), first)
    with torch.no_grad():
        assert torch.equal(edges(with_gradient), _mask(fixed, 6))


def test_lists_of_many_edges_are_tiles(monkeypatch):
    q, k, v = _qkv((29, 7))
    adjacency = _adjacency(LSH(4, 2, window=3, causal=True), (29, 7))
    listed = adjacency.select(q, k)
    assert isinstance(listed, RowEdges)
    monkeypatch.setattr("graphformer.adjacency.content.spans.MOST_EDGES", 29)
    tiles = adjacency.select(q, k)
    assert isinstance(tiles, TiledEdges)
    assert tiles.num_head_edges == listed.num_head_edges
    torch.testing.assert_close(gf.attention(q, k, v, tiles), gf.attention(q, k, v, listed))


@pytest.mark.parametrize("pattern", [TopBlocks(3, 2, causal=True), TopBlocks(3, 2)], ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_own_block_is_chosen_beside_scores_that_are_no_numbers(pattern, value):
    q, k, _ = _qkv((12,))
    k[:9] = value
    mask = _mask(_adjacency(pattern, (12,)).select(q, k), 6)
    assert mask.diagonal(dim1=1, dim2=2).all()


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
    inputs = [x.requires_grad_() for x in _qkv((13, 5), value_width=value_width)]
    q, k, _ = inputs
    table = torch.randn(7, heads, dtype=torch.float64, requires_grad=True)
    bias = gf.ops.OffsetBias(table, slope=torch.rand(heads, dtype=torch.float64))
    adjacency = _adjacency(pattern, (13, 5))
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
    q, k, v = _qkv((31,), value_width=value_width, dtype=torch.float32)
    adjacency = _adjacency(pattern, (31,))
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
    q, k, _ = _qkv(lengths, seed=seed)
    mask = _mask(_adjacency(pattern, tuple(lengths)).select(q, k), q.shape[1])
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
        assert (count <= pattern.block * pattern.k).all()
        assert mask.diagonal(dim1=1, dim2=2).all()
    else:
        assert (count <= pattern.window * pattern.rounds).all()


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p.causal], ids=str)
def test_causal_edges_do_not_depend_on_later_nodes(pattern):
    q, k, _ = _qkv((29,))
    mask = _mask(_adjacency(pattern, (29,)).select(q, k), q.shape[1])
    for size in (1, 11, 28):
        prefix = _mask(_adjacency(pattern, (size,)).select(q[:size], k[:size]), q.shape[1])
        assert torch.equal(prefix, mask[:, :size, :size])


def test_nearest_neighbors_follow_a_permutation_of_the_nodes():
    q, k, v = _qkv((19,))
    order = torch.randperm(19)
    adjacency = _adjacency(NearestNeighbors(4), (19,))
    expected = gf.attention(q, k, v, adjacency)[order]
    torch.testing.assert_close(gf.attention(q[order], k[order], v[order], adjacency), expected)


@pytest.mark.parametrize("pattern", [TopBlocks(3, 2), LSH(4, 2, window=3), NearestNeighbors(2)])
def test_other_samples_of_a_batch_change_nothing(pattern):
    q, k, v = _qkv((13, 7, 13))
    out = gf.attention(q, k, v, _adjacency(pattern, (13, 7, 13)))
    alone = gf.attention(q[13:20], k[13:20], v[13:20], _adjacency(pattern, (7,)))
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
    adjacency = _adjacency(LSH(2, 3, window=2, causal=causal), (2, 1))
    out = gf.attention(q, -q.detach(), q, adjacency)
    (gradient,) = torch.autograd.grad(out.sum(), q)
    assert not out.any()
    assert not gradient.any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_invalid_numbers_stay_in_their_sample(pattern, sample, value):
    lengths, starts = (5, 7, 4), (0, 5, 12)
    own = slice(starts[sample], starts[sample + 1])
    adjacency = _adjacency(pattern, lengths)
    results = []
    for place in (None, 0, 1, 2):
        inputs = _qkv(lengths)
        if place is not None:
            inputs[place][own.start] = value
        inputs = [x.requires_grad_() for x in inputs]
        out = gf.attention(*inputs, adjacency)
        kept = torch.arange(16)[[not own.start <= i < own.stop for i in range(16)]]
        gradients = torch.autograd.grad(out[kept].square().sum(), inputs)
        results.append([out.detach()[kept], *(x[kept] for x in gradients)])
    for found in results[1:]:
        torch.testing.assert_close(found, results[0])


@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float16, False), (torch.bfloat16, True)])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_large_numbers_of_half_precision(pattern, dtype, autocast):
    """Products of them are above the largest number of float16."""
    q, k, v = (x.to(dtype) for x in _qkv((17, 4), width=64))
    q, k = 60 * q, 60 * k
    adjacency = _adjacency(pattern, (17, 4))
    wide = q.double(), k.double(), v.double()
    with torch.autocast("cpu", dtype, enabled=autocast):
        mask = _mask(adjacency.select(q, k), 6)
        out = gf.attention(q, k, v, adjacency)
    expected_mask = mask_by_hand(pattern, *wide[:2], (17, 4))
    assert torch.equal(mask, expected_mask)
    expected = dense_attention(*wide, expected_mask, 1 / 8)
    torch.testing.assert_close(out.double(), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("share_heads", [False, True])
@pytest.mark.parametrize("value", [torch.inf, 1e308])
def test_fixed_blocks_come_before_infinite_scores(value, share_heads):
    pattern = TopBlocks(2, 2, causal=True, share_heads=share_heads)
    q = torch.ones(9, 2, 3, dtype=torch.float64)
    k = torch.full((9, 1, 3), value, dtype=torch.float64)
    mask = pattern.mask(q, k)
    assert mask.diagonal(dim1=1, dim2=2).all()
    assert mask.sum(-1).max() == 4


def test_edges_are_unknown_before_selection():
    adjacency = _adjacency(TopBlocks(3, 2), (7, 5))
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
    q, k, v = _qkv((12,))
    adjacency = _adjacency(TopBlocks(3, 2), (12,))
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
    q, k, _ = _qkv((12,))
    with pytest.raises(ValueError, match="expected 12 of both"):
        _adjacency(LSH(4), (12,)).select(q, k[:11])


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
        (lambda: TopBlocks(4, 2, nearest=2), "first, nearest"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        make()
