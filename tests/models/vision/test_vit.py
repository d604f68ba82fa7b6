"""Vision transformers: mixed sizes in a batch, class tokens over any adjacency, positions."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images

import graphformer as gf
from graphformer import models, patterns
from graphformer.models.vision.vit import connect_tokens

KINDS = {
    "axial": {},
    "learned": {"positions": "learned", "shape": (5, 3)},
    "sincos": {"positions": "sincos"},
    "convolutional": {"stem": "convolutional", "patch_size": 2},
}
PATTERNS = {
    "complete": patterns.Complete(),
    "grid": patterns.Grid(1),
    "global": patterns.Grid(1) | patterns.GlobalNodes(2),
}


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_batch_of_mixed_sizes_gives_what_single_images_give(pool, kind, pattern):
    torch.manual_seed(0)
    model = models.vit(12, 7, 12, 2, 3, pool=pool, registers=2, **KINDS[kind]).eval()
    images, pattern = random_images(), PATTERNS[pattern]
    batch = patch_batch(images)
    together = model(batch, pattern(batch))
    alone = [model(one, pattern(one)) for one in (patch_batch([image]) for image in images)]
    assert together.shape == (4, 7)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_a_class_token_joins_any_adjacency_as_a_global_node():
    sizes = (6, 1, 0, 3)
    edges = gf.grid([(2, 3), (1, 1), (0, 5), (3, 1)], radius=1)
    joined = connect_tokens(edges, sizes, 2).to_mask()
    starts = [0, 8, 11, 13]
    expected = torch.zeros(18, 18, dtype=torch.bool)
    first = 0
    for start, size in zip(starts, sizes, strict=True):
        own = slice(start, start + size + 2)
        patches = slice(start + 2, start + size + 2)
        expected[start : start + 2, own] = True
        expected[own, start : start + 2] = True
        before = slice(first, first + size)
        expected[patches, patches] = edges.to_mask()[before, before]
        first += size
    assert torch.equal(joined, expected)
    complete = connect_tokens(gf.complete(sizes), sizes, 2)
    assert isinstance(complete, gf.adjacency.Complete)
    assert complete.lengths == (8, 3, 2, 5)
    assert connect_tokens(complete, sizes, 2) is complete
    with pytest.raises(ValueError, match="over the 10 patches.*8 tokens, got 11 x 11"):
        connect_tokens(gf.complete(11), sizes, 2)


def test_each_head_keeps_its_own_edges_beside_the_tokens():
    shapes, sizes = [(2, 3), (1, 4)], (6, 4)
    near, loops = gf.grid(shapes), gf.window(sizes, 0)
    joined = connect_tokens(gf.adjacency.HeadEdges.of(near, loops), sizes, 1)
    expected = [connect_tokens(part, sizes, 1).to_mask() for part in (near, loops)]
    found = [torch.zeros(12, 12, dtype=torch.bool) for _ in range(2)]
    source, target = joined.edge_index
    for mask, own in zip(found, joined.heads.T, strict=True):
        mask[target[own], source[own]] = True
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_class_token_answers_and_hears_of_every_patch():
    torch.manual_seed(0)
    model = models.vit(12, 7, 12, 1, 3, pool="class").eval()
    batch = patch_batch(random_images([(6, 10)]))
    batch.x.requires_grad_()
    adjacency = gf.window(batch.lengths, 0)  # patches see themselves alone
    model(batch, adjacency).sum().backward()
    assert (batch.x.grad.abs().amax(1) > 0).all()
    nodes, sizes = model.nodes(batch, adjacency)
    assert (nodes.shape, sizes) == ((16, 12), (16,))
    assert model.patch_mask(sizes).tolist() == [False] + [True] * 15


def test_one_adjacency_a_block_and_answers_of_patches():
    model = models.vit(12, None, 12, 2, 3, registers=1).eval()
    batch = patch_batch(random_images())
    adjacency = [gf.grid(batch.shapes), gf.complete(batch.lengths)]
    assert model(batch, adjacency).shape == (len(batch.x), 12)
    other = model(batch, adjacency[::-1])
    assert not torch.allclose(model(batch, adjacency), other)


def test_attention_never_crosses_images():
    torch.manual_seed(0)
    model = models.vit(12, 7, 12, 2, 3, pool="class").eval()
    images = random_images()
    batch = patch_batch(images)
    before = model(batch, patterns.Grid(1)(batch))
    images[1] = images[1] + 1
    changed = patch_batch(images)
    after = model(changed, patterns.Grid(1)(changed))
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": "first"}, "pool must be 'mean' or 'class'"),
        ({"positions": "learned"}, "'learned' needs shape"),
        ({"positions": "rotary"}, "positions must be 'axial'"),
        ({"stem": "convolutional"}, "needs patch_size"),
        ({"stem": "overlap"}, "stem must be"),
        ({"registers": -1}, "registers must be 0 or more, got -1"),
    ],
)
def test_wrong_parts_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        models.vit(12, 7, 12, 1, 3, **settings)


def test_patches_of_another_width_are_refused():
    batch = patch_batch(random_images())
    for kind in ("sincos", "convolutional"):
        model = models.vit(48, 7, 12, 1, 3, **{**KINDS[kind], "patch_size": 4})
        with pytest.raises(ValueError, match=r"batch.x is \[42, 12\], but .* patches \[N, 48\]"):
            model(batch, gf.grid(batch.shapes))


@pytest.mark.slow
def test_an_image_of_2048_by_2048_goes_through_a_grid_in_bounded_memory():
    """65,536 nodes: complete attention would take 17 GB a head for its weights alone."""
    from resource import RUSAGE_SELF, getrusage

    model = models.vit(64, 5, 16, 2, 2, positions="sincos", pool="class").train()
    warm = patch_batch(random_images([(16, 16)], channels=1), 8)
    model(warm, patterns.Grid(1)(warm)).sum().backward()  # compiles the kernels
    batch = patch_batch(random_images([(2048, 2048)], channels=1), 8)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    model(batch, patterns.Grid(1)(batch)).sum().backward()
    assert (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024 < 1500


def test_positions_of_a_smaller_run_are_interpolated(tmp_path):
    from graphformer.tasks.warm_start import load_pretrained

    small = models.vit(12, 7, 12, 1, 3, positions="learned", shape=(3, 5))
    weights = {f"network.{name}": weight for name, weight in small.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "run.ckpt")
    large = models.vit(12, 11, 12, 1, 3, positions="learned", shape=(6, 4))
    kept = load_pretrained(large, tmp_path / "run.ckpt")
    assert kept == ["head.linear.bias", "head.linear.weight"]
    batch = patch_batch(random_images([(12, 8)]))
    embedded = small.embedding(batch)
    torch.testing.assert_close(large.embedding(batch), embedded)
