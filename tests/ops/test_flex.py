"""FlexAttention: masks made from rules, and the definition; training only where there is a GPU."""

from __future__ import annotations

import pytest
import torch
from helpers import definition
from helpers.awkward import AWKWARD
from torch.nn.attention.flex_attention import create_block_mask

import graphformer as gf
from graphformer.adjacency import Implicit, union
from graphformer.ops import flex
from graphformer.ops.offset_bias import OffsetBias

RULES = [name for name, make in AWKWARD.items() if isinstance(make(), Implicit)]
LARGE = {
    "complete": lambda: gf.complete([131, 257, 3]),
    "causal": lambda: gf.causal([293, 307]),
    "causal-cached": lambda: gf.causal([67, 131], [269, 137]),
    "window": lambda: gf.window([521, 0, 101], 37),
    "window-causal": lambda: gf.window([401], 131, causal=True),
    "grid": lambda: gf.grid([(19, 23), (7, 11)], radius=2),
    "union": lambda: union([gf.window([401], 5), gf.causal([401])]),
    "documents and band": lambda: union([gf.complete([131, 257]), gf.window([388], 11)]),
}
HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 6, 3, 5, 7


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator)


def inputs(adjacency, width=WIDTH, value_width=VALUE_WIDTH):
    m, n = adjacency.shape
    return (
        randn(m, HEADS, width, seed=1),
        randn(n, KV_HEADS, width, seed=2),
        randn(n, KV_HEADS, value_width, seed=3),
    )


@pytest.mark.parametrize("name", LARGE)
def test_the_blocks_are_those_that_torch_finds(name):
    adjacency = LARGE[name]()
    mask = adjacency.to_mask()
    ours = flex.block_mask(*flex.rules_of(adjacency))
    theirs = create_block_mask(
        lambda b, h, i, j: mask[i, j], None, None, *adjacency.shape, device="cpu"
    )
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert ours.seq_lengths == adjacency.shape
    if "union" not in name and "and" not in name:  # a block may be full in no rule alone
        assert torch.equal(ours.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert (ours.full_kv_num_blocks <= theirs.full_kv_num_blocks).all()
    i, j = torch.meshgrid(*(torch.arange(size) for size in adjacency.shape), indexing="ij")
    assert torch.equal(ours.mask_mod(None, None, i, j), mask)


@pytest.mark.parametrize(
    "name",
    [*RULES, *(f"large {name}" for name in LARGE if "union" not in name and "and" not in name)],
)
def test_edges_of_each_block_are_counted(name):
    adjacency = LARGE[name[6:]]() if name.startswith("large ") else AWKWARD[name]()
    rows, columns = (-(-size // flex.BLOCK) for size in adjacency.shape)
    expected = torch.zeros(rows * flex.BLOCK, columns * flex.BLOCK, dtype=torch.int64)
    expected[: adjacency.shape[0], : adjacency.shape[1]] = adjacency.to_mask()
    blocks = expected.view(rows, flex.BLOCK, columns, flex.BLOCK).sum((1, 3))
    assert torch.equal(flex._block_counts(adjacency.shape, *adjacency.boxes()), blocks)


@pytest.mark.parametrize("name", [*RULES, *(f"large {name}" for name in LARGE)])
def test_attention_is_its_definition(name):
    adjacency = LARGE[name[6:]]() if name.startswith("large ") else AWKWARD[name]()
    q, k, v = inputs(adjacency)
    out = gf.attention(q, k, v, adjacency, backend="flex")
    expected, _ = definition.attention(*(x.double() for x in (q, k, v)), adjacency)
    torch.testing.assert_close(out.double(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("heads", [1, HEADS])
@pytest.mark.parametrize("name", ["causal-ragged", "causal-cached", "window", "grid"])
def test_a_bias_that_is_a_rule(name, heads):
    adjacency = AWKWARD[name]()
    q, k, v = inputs(adjacency)
    bias = OffsetBias(randn(7, heads), slope=randn(heads, seed=1))
    out = gf.attention(q, k, v, adjacency, bias=bias, backend="flex")
    expected = gf.attention(q, k, v, adjacency, bias=bias, backend="reference")
    torch.testing.assert_close(out, expected, rtol=2e-4, atol=2e-5)


def test_masks_are_made_once_for_equal_rules():
    first = flex.block_mask(gf.window([401, 3], 2))
    assert flex.block_mask(gf.window([401, 3], 2)) is first
    assert flex.block_mask(gf.window([401, 3], 3)) is not first


def test_the_share_of_edges_in_blocks():
    assert flex.fill(256 * 256, gf.complete(256)) == 1
    assert flex.fill(256, gf.window(256, 0)) == 256 / (2 * 128**2)
    assert flex.fill(0, gf.complete(0)) == 0


@pytest.mark.parametrize("name", ["causal-ragged", "grid"])
def test_compiles_in_one_graph(name):
    torch._dynamo.reset()
    adjacency = AWKWARD[name]()
    q, k, v = inputs(adjacency)

    def run(q, k, v, adjacency):
        return gf.attention(2 * q, k, v, adjacency, backend="flex").relu()

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(q, k, v, adjacency), run(q, k, v, adjacency))


PLAIN = {"bias": None, "edge_weight": None, "dropout": 0.0, "return_weights": False}


@pytest.mark.parametrize(
    ("make", "change", "expected"),
    [
        (lambda: gf.complete([101] * 7), {}, "sdpa"),
        (lambda: gf.causal([101, 103]), {"dropout": 0.1}, "sdpa"),
        (lambda: gf.causal([*range(101, 111)]), {}, "flex"),
        (lambda: gf.causal([*range(101, 111)]), {"dropout": 0.1}, "sdpa"),
        (lambda: gf.window(1009, 101), {}, "flex"),
        (lambda: gf.window(1009, 101), {"dropout": 0.1}, "sdpa"),
        (lambda: gf.window(1009, 17), {"dropout": 0.1}, "triton"),
        (lambda: gf.window(1009, 101), {"return_weights": True}, "triton"),
        (lambda: gf.window(1009, 1), {}, "triton"),
        (lambda: gf.window(1009, 101).to_csr(), {}, "triton"),
        (lambda: union([gf.window(1009, 101), gf.causal(1009)]), {}, "flex"),
    ],
)
def test_auto_on_cuda(make, change, expected, monkeypatch):
    from graphformer.ops import select

    monkeypatch.setattr(select, "HAS_TRITON", True)
    options = PLAIN | change
    assert (
        select.auto_backend_on_cuda("attention", make(), options, torch.float32, width=32)
        == expected
    )


def test_auto_on_cuda_leaves_out_what_cannot_run(monkeypatch):
    from graphformer.ops import select

    monkeypatch.setattr(select, "HAS_TRITON", True)
    band, learned = gf.window(1009, 17), OffsetBias(torch.ones(3, 2, requires_grad=True))

    def chosen(*, function="attention", dtype=torch.float32, width=32, offset_bias=None):
        return select.auto_backend_on_cuda(
            function, band, PLAIN, dtype, width=width, offset_bias=offset_bias
        )

    assert chosen() == "flex"
    assert (
        chosen(width=8)
        == chosen(offset_bias=learned)
        == chosen(function="gatv2_attention")
        == "triton"
    )
    assert chosen(dtype=torch.float64) == "scatter"
    monkeypatch.setattr(select, "HAS_TRITON", False)
    assert chosen() == "scatter"


def test_what_it_cannot_do_is_said():
    q = torch.ones(5, 2, 3)
    adjacency = gf.complete(5)

    def attempt(adjacency=adjacency, q=q, **options):
        gf.attention(q, q, q, adjacency, backend="flex", **options)

    with pytest.raises(ValueError, match="'flex', which needs a rule"):
        attempt(adjacency.to_csr())
    with pytest.raises(ValueError, match="'flex', which cannot add a bias per edge"):
        attempt(bias=torch.ones(25))
    with pytest.raises(ValueError, match="'flex', which cannot multiply logits by edge_weight"):
        attempt(edge_weight=torch.ones(25))
    with pytest.raises(ValueError, match="'flex', which cannot drop"):
        attempt(dropout=0.5)
    with pytest.raises(ValueError, match="'flex', which cannot return weights"):
        attempt(return_weights=True)
    with pytest.raises(ValueError, match="reproducible gradients of an OffsetBias"):
        attempt(bias=OffsetBias(torch.ones(3, 2, requires_grad=True)))
    with pytest.raises(ValueError, match="'flex', which trains on CUDA only, not on a CPU"):
        attempt(q=torch.ones(5, 2, 3, requires_grad=True))
    with pytest.raises(ValueError, match="'flex', which has no additive_attention"):
        gf.additive_attention(q[..., 0], q[..., 0], q, adjacency, backend="flex")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_gradients_on_cuda(name, dtype):
    adjacency = LARGE[name]().to("cuda")
    tensors = [x.to("cuda", dtype) for x in inputs(adjacency, 32, 16)]
    results = []
    for backend, wide in (("flex", dtype), ("reference", torch.float64)):
        leaves = [x.to(wide).requires_grad_() for x in tensors]
        out = gf.attention(*leaves, adjacency, backend=backend)
        weight = randn(*out.shape, seed=9).to(out)
        results.append([out, *torch.autograd.grad((out * weight).sum(), leaves)])
    rtol, atol = (2e-4, 2e-5) if dtype == torch.float32 else (6e-2, 6e-2)
    for mine, exact in zip(*results, strict=True):
        size = max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(mine.double(), exact.double(), rtol=rtol, atol=atol * size)
