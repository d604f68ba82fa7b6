"""Implicit adjacencies against masks computed element by element, and their cost."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphformer as gf


def brute(shape, blocks, allowed) -> torch.Tensor:
    """The mask of a rule `allowed(i, j, m, n)` within blocks of m targets and n sources."""
    mask = torch.zeros(shape, dtype=torch.bool)
    top = left = 0
    for m, n in blocks:
        for i in range(m):
            for j in range(n):
                mask[top + i, left + j] = allowed(i, j, m, n)
        top, left = top + m, left + n
    return mask


sizes = st.lists(st.integers(0, 7), max_size=4)
pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=4)


def assert_is(adjacency, expected) -> None:
    assert adjacency.shape == tuple(expected.shape)
    assert torch.equal(adjacency.to_mask(), expected)
    assert adjacency.num_edges == int(expected.sum())
    target, source = expected.nonzero().T
    assert torch.equal(adjacency.edge_index, torch.stack([source, target]))
    assert torch.equal(adjacency.T.to_mask(), expected.T)
    everywhere = torch.ones_like(expected).nonzero().T
    assert torch.equal(adjacency.contains(*everywhere), expected.flatten())


@given(pairs)
def test_complete(blocks):
    lengths, source_lengths = [m for m, _ in blocks], [n for _, n in blocks]
    adjacency = gf.complete(lengths, source_lengths)
    assert_is(adjacency, brute(adjacency.shape, blocks, lambda i, j, m, n: True))


@given(pairs)
def test_causal_is_aligned_at_the_end(blocks):
    lengths, source_lengths = [m for m, _ in blocks], [n for _, n in blocks]
    adjacency = gf.causal(lengths, source_lengths)
    # Counted from the end: target i is m - i from it, source j is n - j.
    assert_is(adjacency, brute(adjacency.shape, blocks, lambda i, j, m, n: n - j >= m - i))


@given(sizes, st.integers(0, 9), st.booleans())
def test_window(lengths, radius, causal):
    adjacency = gf.window(lengths, radius, causal=causal)
    blocks = [(n, n) for n in lengths]
    expected = brute(
        adjacency.shape,
        blocks,
        lambda i, j, m, n: abs(i - j) <= radius and not (causal and j > i),
    )
    assert_is(adjacency, expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=3), st.integers(0, 3))
def test_grid(shapes, radius):
    adjacency = gf.grid(shapes, radius=radius)
    cells = [(s, y, x) for s, (h, w) in enumerate(shapes) for y in range(h) for x in range(w)]
    expected = torch.zeros(len(cells), len(cells), dtype=torch.bool)
    for i, (s, y, x) in enumerate(cells):
        for j, (t, v, u) in enumerate(cells):
            expected[i, j] = s == t and max(abs(y - v), abs(x - u)) <= radius
    assert_is(adjacency, expected)


def test_grid_accepts_one_shape_or_several():
    assert gf.grid((2, 3)) == gf.grid([(2, 3)]) == gf.grid(torch.tensor([[2, 3]]))
    assert gf.grid([(2, 3), (5, 7)]).lengths == (6, 35)


def test_lengths_as_int_sequence_or_tensor():
    assert gf.complete(7) == gf.complete([7]) == gf.complete(torch.tensor([7]))
    assert gf.causal((2, 3)) == gf.causal(torch.tensor([2, 3], dtype=torch.int32))


def test_edges_are_counted_without_listing_them():
    n, radius = 10**6, 3
    assert gf.window(n, radius).num_edges == n * (2 * radius + 1) - radius * (radius + 1)
    assert gf.complete(n).num_edges == n * n
    assert gf.complete(n).density == 1.0
    assert gf.causal(n).num_edges == n * (n + 1) // 2
    assert gf.grid((1000, 1000)).num_edges == (3 * 1000 - 2) ** 2


@pytest.mark.parametrize("make", [gf.complete, gf.causal, lambda n: gf.window(n, 5)])
def test_ten_thousand_nodes_need_no_quadratic_memory(make, monkeypatch):
    largest = 0
    arange, zeros, empty = torch.arange, torch.zeros, torch.empty

    def tracked(function):
        def call(*args, **kwargs):
            nonlocal largest
            out = function(*args, **kwargs)
            largest = max(largest, out.numel())
            return out

        return call

    monkeypatch.setattr(torch, "arange", tracked(arange))
    monkeypatch.setattr(torch, "zeros", tracked(zeros))
    monkeypatch.setattr(torch, "empty", tracked(empty))
    tracemalloc.start()
    adjacency = make([10_007, 7])
    _ = adjacency.num_edges, adjacency.density, adjacency.block_density, adjacency.shape
    buckets = adjacency.buckets
    held = [getattr(bucket, name) for bucket in buckets for name in bucket.__dataclass_fields__]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7
    assert largest < 10**6
    assert all(x.numel() <= 10_014 for x in held if isinstance(x, torch.Tensor))


def test_rules_are_equal_by_value():
    assert gf.window([3, 5], 2) == gf.window([3, 5], 2)
    assert hash(gf.window([3, 5], 2)) == hash(gf.window([3, 5], 2))
    for other in (gf.window([3, 5], 1), gf.window([5, 3], 2), gf.window([3, 5], 2, causal=True)):
        assert gf.window([3, 5], 2) != other
    assert gf.complete(5) != gf.causal(5)
    window = gf.window(7, 1)
    window.to_csr()
    assert window == gf.window(7, 1), "cached values do not matter"


def test_the_transpose_of_symmetric_rules_is_implicit():
    for adjacency in (gf.window([5, 3], 2), gf.grid((3, 2))):
        assert adjacency.T is adjacency
    assert gf.complete([5, 7], [2, 3]) == gf.complete([2, 3], [5, 7]).T


def test_computed_values_are_cached():
    adjacency = gf.window([5, 3], 1)
    assert adjacency.to_csr() is adjacency.to_csr()
    assert adjacency.to_csr().by_source is adjacency.to_csr().by_source
    assert adjacency.edge_index is adjacency.edge_index


def test_to_mask_returns_a_copy():
    adjacency = gf.window(5, 1)
    adjacency.bucket_mask(0)
    adjacency.to_mask().zero_()
    assert adjacency.to_mask().any()
    assert adjacency.bucket_mask(0).any()


@pytest.mark.parametrize(
    "make", [lambda: gf.window([5, 3], 2), lambda: gf.window([5, 3], 2).to_csr()]
)
@pytest.mark.parametrize("backend", ["scatter", "sdpa"])
def test_values_cached_in_inference_mode_can_be_trained_with(make, backend):
    adjacency = make()
    q = torch.randn(8, 2, 3, requires_grad=True)
    with torch.inference_mode():
        gf.attention(q, q, q, adjacency, backend=backend)
        _ = adjacency.to_csr().by_source, adjacency.edge_index, adjacency.T
    gf.attention(q, q, q, adjacency, backend=backend).sum().backward()
    assert not adjacency.edge_index.is_inference()
    assert not adjacency.to_csr().by_source.slots.is_inference()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gf.complete(-1), ValueError, "lengths"),
        (lambda: gf.complete(2.5), ValueError, "lengths"),
        (lambda: gf.complete([True]), ValueError, "lengths"),
        (lambda: gf.complete("12"), ValueError, "lengths"),
        (lambda: gf.complete(torch.ones(2, 2).long()), ValueError, "lengths: got shape .* 1-D"),
        (lambda: gf.complete([2, 3], [5]), ValueError, "source_lengths"),
        (lambda: gf.causal([2], [-5]), ValueError, "source_lengths"),
        (lambda: gf.window(5, -1), ValueError, "radius"),
        (lambda: gf.window(5, 1.0), ValueError, "radius"),
        (lambda: gf.window(5, 2**70), ValueError, "radius: got 1180591620717411303424"),
        (lambda: gf.grid([(2, 3, 5), (2, 3)]), ValueError, "shapes: .* one number of axes"),
        (lambda: gf.grid([(2, 3, 5)], (1, 2)), ValueError, "radius: .* each of the 3 axes"),
        (lambda: gf.grid([()]), ValueError, "shapes"),
        (lambda: gf.grid([(2, -3)]), ValueError, "shapes"),
        (lambda: gf.grid(5), ValueError, "shapes"),
    ],
)
def test_errors_name_the_argument(call, error, match):
    with pytest.raises(error, match=match):
        call()
