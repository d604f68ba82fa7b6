"""The bias of a relative position against its formula, on every adjacency and backend."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.awkward import AWKWARD, random_edges

import graphformer as gf
from graphformer.adjacency import Causal, Implicit
from graphformer.ops import OffsetBias
from graphformer.ops.offset_bias import default_positions

HEADS, REACH = 4, 3
TABLE = torch.randn(2 * REACH + 1, HEADS, generator=torch.Generator().manual_seed(1)).double()
SLOPE = torch.tensor([0.5, 0.25, 2.0, 0.125]).double()


def lists(adjacency):
    """The place of every target and source in its sample, by loops."""
    if not isinstance(adjacency, Implicit):
        return [list(range(size)) for size in adjacency.shape]
    targets, sources = [], []
    for m, n in zip(adjacency.lengths, adjacency.source_lengths, strict=True):
        shift = n - m if isinstance(adjacency, Causal) else 0
        targets += [i + shift for i in range(m)]
        sources += range(n)
    return targets, sources


def by_edge(adjacency, table, slope=None, positions=None):
    """The formula, edge by edge."""
    targets, sources = positions or lists(adjacency)
    rows = []
    for j, i in adjacency.edge_index.T.tolist():
        offset = sources[j] - targets[i]
        row = table[max(-REACH, min(REACH, offset)) + REACH]
        if slope is not None:
            row = row - slope * max(abs(offset) - REACH, 0)
        rows.append(row)
    return torch.stack(rows) if rows else table.new_zeros(0, table.shape[1])


def qkv(adjacency, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    m, n = adjacency.shape
    shapes = (m, HEADS, 5), (n, 2, 5), (n, 2, 3)
    return [torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def needs_places(adjacency):
    m, n = adjacency.shape
    return not isinstance(adjacency, Implicit) and m != n


@pytest.mark.parametrize("backend", ["auto", "sdpa", "scatter", "reference"])
@pytest.mark.parametrize("name", AWKWARD)
def test_attention_with_the_rule_is_attention_with_its_values(name, backend):
    adjacency = AWKWARD[name]()
    if needs_places(adjacency):
        pytest.skip("explicit edges between two sets have no places")
    table, slope = TABLE.clone().requires_grad_(), SLOPE.clone().requires_grad_()
    other, others = TABLE.clone().requires_grad_(), SLOPE.clone().requires_grad_()
    inputs, copies = qkv(adjacency), qkv(adjacency)
    out = gf.attention(*inputs, adjacency, bias=OffsetBias(table, slope=slope), backend=backend)
    bias = by_edge(adjacency, other, others)
    expected, _ = definition.attention(*copies, adjacency, bias=bias)
    torch.testing.assert_close(out, expected)
    if not adjacency.num_edges:
        return
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).double()
    got = torch.autograd.grad((out * cotangent).sum(), [*inputs, table, slope])
    want = torch.autograd.grad((expected * cotangent).sum(), [*copies, other, others])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ["auto", "sdpa", "scatter"])
@pytest.mark.parametrize(
    "adjacency",
    [
        gf.complete([5, 3, 5]),
        gf.complete([3, 2], [5, 7]),
        gf.causal([7, 5]),
        gf.window([7, 3], 2),
        gf.from_edge_index(random_edges(11, 11, 37), 11),
        gf.from_edge_index(random_edges(5, 13, 29), (5, 13)),
        gf.window(11, 1) | gf.from_edge_index(random_edges(11, 11, 17), 11),
    ],
    ids=str,
)
def test_given_positions(adjacency, backend):
    m, n = adjacency.shape
    generator = torch.Generator().manual_seed(5)
    sources = torch.randint(-7, 11, (n,), generator=generator)
    targets = sources if m == n else torch.randint(-7, 11, (m,), generator=generator)
    rule = OffsetBias(TABLE, targets, None if m == n else sources)
    bias = by_edge(adjacency, TABLE, positions=(targets.tolist(), sources.tolist()))
    q, k, v = qkv(adjacency)
    out = gf.attention(q, k, v, adjacency, bias=rule, backend=backend)
    torch.testing.assert_close(out, definition.attention(q, k, v, adjacency, bias=bias)[0])


@pytest.mark.parametrize("backend", ["cpu", "sdpa"])
def test_in_single_precision_and_with_one_head_for_all(backend):
    adjacency = gf.window([13, 7], 2, causal=True)
    q, k, v = qkv(adjacency, torch.float32)
    out = gf.attention(q, k, v, adjacency, bias=OffsetBias(TABLE[:, :1]), backend=backend)
    bias = by_edge(adjacency, TABLE[:, :1]).float()
    expected, _ = definition.attention(q, k, v, adjacency, bias=bias)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", AWKWARD)
def test_places(name):
    adjacency = AWKWARD[name]()
    if needs_places(adjacency):
        with pytest.raises(ValueError, match="positions: got None for explicit edges"):
            default_positions(adjacency)
    else:
        assert [part.tolist() for part in default_positions(adjacency)] == [
            *map(list, lists(adjacency))
        ]


@pytest.mark.parametrize("passed", [False, True], ids=["default", "passed"])
@pytest.mark.parametrize(
    "adjacency",
    [
        gf.complete([5, 3, 5]),
        gf.complete([3, 2, 3], [5, 7, 5]),
        gf.causal([2, 3, 2], [7, 3, 7]),
        gf.window([7, 3], 2),
        gf.from_edge_index(random_edges(11, 11, 37), 11),
    ],
    ids=str,
)
def test_dense_biases_of_a_bucket_are_those_of_its_edges(adjacency, passed):
    """`on_block` against `on_edges`, sample by sample."""
    m, n = adjacency.shape
    generator = torch.Generator().manual_seed(3)
    positions = [torch.randint(-5, 6, (size,), generator=generator) for size in (m, n)]
    bias = OffsetBias(TABLE, *(positions if passed else []), slope=SLOPE)
    values = bias.on_edges(adjacency)
    for index, bucket in enumerate(adjacency.buckets):
        dense = bias.on_block(adjacency, bucket)
        shared = not passed and isinstance(adjacency, Implicit)
        assert dense.shape == (1 if shared else bucket.count, HEADS, *bucket.shape)
        dense = dense.expand(bucket.count, -1, -1, -1)
        edges = values if bucket.edges is None else values[bucket.edges]
        expected = edges.unflatten(0, (bucket.count, bucket.num_edges))
        present = adjacency.bucket_mask(index)
        if adjacency.to_csr().edge_ids is not None:  # explicit edges in the order of the mask
            expected = expected[:, adjacency.to_csr().edge_ids]
        torch.testing.assert_close(dense[:, :, present].transpose(1, 2), expected)


@pytest.mark.parametrize(("m", "n", "shift"), [(5, 7, 2), (7, 5, -2), (3, 11, 0), (1, 13, 12)])
def test_windows_of_one_vector(m, n, shift):
    offsets = torch.arange(n) - (torch.arange(m) + shift).unsqueeze(1)
    rule = OffsetBias(TABLE, slope=SLOPE)
    torch.testing.assert_close(rule.toeplitz(m, n, shift), rule.at(offsets).permute(2, 0, 1))


@pytest.mark.parametrize("rule", [gf.complete, gf.causal])
def test_memory_of_a_batch_is_that_of_one_sample(rule):
    """Samples of one length share their biases: nothing of size [B, H, L, L] is made."""
    adjacency, biggest = rule([31] * 17), 0
    q, k, v = (torch.randn(31 * 17, HEADS, 5) for _ in range(3))

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                biggest = max(biggest, out.numel())
            return out

    with Spy():
        gf.attention(q, k, v, adjacency, bias=OffsetBias(TABLE.float()), backend="sdpa")
    assert biggest == max(q.numel(), HEADS * 31 * 31)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: OffsetBias(torch.zeros(4, HEADS)), r"table: got .* expected \[2R \+ 1, H\]"),
        (lambda: OffsetBias(torch.zeros(5)), r"table: got .* expected \[2R \+ 1, H\]"),
        (lambda: OffsetBias(TABLE, slope=torch.zeros(3)), r"slope: got \[3\], expected \[4\]"),
        (lambda: OffsetBias(TABLE, torch.zeros(3)), "positions: got torch.float32"),
        (lambda: OffsetBias(TABLE, source_positions=torch.arange(3)), "pass both"),
        (lambda: attend(OffsetBias(TABLE[:, :3])), "bias: got a table of 3 heads, expected 4 or 1"),
        (
            lambda: attend(OffsetBias(TABLE, torch.arange(5))),
            "got 5 and 5, expected one for each of 7 targets",
        ),
    ],
)
def test_errors_name_the_argument(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def attend(rule):
    adjacency = gf.complete(7)
    return gf.attention(*qkv(adjacency), adjacency, bias=rule)
