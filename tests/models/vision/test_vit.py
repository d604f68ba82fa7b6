"""Vision transformers: mixed sizes in a batch, class tokens over any adjacency, positions."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images

import graphformer as gf
from graphformer import models, patterns
from graphformer.batch_type import Batch

KINDS = {
    "axial": {},
    "learned": {"positions": "learned", "shape": (5, 3)},
    "sincos": {"positions": "sincos"},
    "convolutional": {"stem": "convolutional"},
}
PATTERNS = {
    "complete": patterns.Complete(),
    "grid": patterns.Grid(1),
    "global": patterns.Grid(1) | patterns.GlobalNodes(2),
}


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_batch_of_mixed_sizes_gives_what_single_images_give(pool, kind, pattern):
    torch.manual_seed(0)
    model = models.vit(
        7, 12, 2, 3, channels=3, patch_size=2, pool=pool, registers=2, **KINDS[kind]
    ).eval()
    images, pattern = random_images(), PATTERNS[pattern]
    batch = patch_batch(images)
    together = model(batch, pattern(batch))
    alone = [model(one, pattern(one)) for one in (patch_batch([image]) for image in images)]
    assert together.shape == (4, 7)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_the_class_token_answers_and_hears_of_every_patch():
    torch.manual_seed(0)
    model = models.vit(7, 12, 1, 3, channels=3, patch_size=2, pool="cls").eval()
    batch = patch_batch(random_images([(6, 10)]))
    batch.x.requires_grad_()
    adjacency = gf.window(batch.lengths, 0)  # patches see themselves alone
    model(batch, adjacency).sum().backward()
    assert (batch.x.grad.abs().amax(1) > 0).all()
    nodes, sizes = model.nodes(batch, adjacency)
    assert (nodes.shape, sizes) == ((16, 12), (16,))
    assert model.patch_mask(sizes).tolist() == [False] + [True] * 15


def test_one_adjacency_a_block_and_answers_of_patches():
    model = models.vit(None, 12, 2, 3, channels=3, patch_size=2, registers=1).eval()
    batch = patch_batch(random_images())
    adjacency = [gf.grid(batch.shapes), gf.complete(batch.lengths)]
    assert model(batch, adjacency).shape == (len(batch.x), 12)
    other = model(batch, adjacency[::-1])
    assert not torch.allclose(model(batch, adjacency), other)


def test_attention_never_crosses_images():
    torch.manual_seed(0)
    model = models.vit(7, 12, 2, 3, channels=3, patch_size=2, pool="cls").eval()
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
        ({"pool": "last"}, "pool: got 'last', expected 'mean' or 'cls'"),
        ({"positions": "learned"}, "shape: got None, .* positions='learned'"),
        ({"positions": "rotary"}, "positions: got 'rotary', expected 'axial'"),
        ({"stem": "overlap"}, "stem: got 'overlap', expected"),
        ({"registers": -1}, "registers: got -1, expected 0 or more"),
    ],
)
def test_wrong_parts_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        models.vit(7, 12, 1, 3, channels=3, patch_size=2, **settings)


def test_patches_of_another_width_are_refused():
    batch = patch_batch(random_images())
    for kind in ("sincos", "convolutional"):
        model = models.vit(7, 12, 1, 3, channels=3, patch_size=4, **KINDS[kind])
        message = r"batch.x: got shape \[42, 12\], expected patches \[N, 48\]"
        with pytest.raises(ValueError, match=message):
            model(batch, gf.grid(batch.shapes))


@pytest.mark.slow
def test_an_image_of_2048_by_2048_goes_through_a_grid_in_bounded_memory():
    """65,536 nodes: complete attention would take 17 GB a head for its weights alone."""
    from resource import RUSAGE_SELF, getrusage

    model = models.vit(
        5, 16, 2, 2, channels=1, patch_size=8, positions="sincos", pool="cls"
    ).train()
    warm = patch_batch(random_images([(16, 16)], channels=1), 8)
    model(warm, patterns.Grid(1)(warm)).sum().backward()  # compiles the kernels
    batch = patch_batch(random_images([(2048, 2048)], channels=1), 8)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    model(batch, patterns.Grid(1)(batch)).sum().backward()
    assert (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024 < 1500


def test_positions_of_a_smaller_run_are_interpolated(tmp_path):
    from graphformer.tasks.warm_start import load_pretrained

    small = models.vit(7, 12, 1, 3, channels=3, patch_size=2, positions="learned", shape=(3, 5))
    weights = {f"network.{name}": weight for name, weight in small.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "run.ckpt")
    large = models.vit(11, 12, 1, 3, channels=3, patch_size=2, positions="learned", shape=(6, 4))
    kept = load_pretrained(large, tmp_path / "run.ckpt")
    assert kept == ["head.linear.bias", "head.linear.weight"]
    batch = patch_batch(random_images([(12, 8)]))
    embedded = small.embedding(batch)
    torch.testing.assert_close(large.embedding(batch), embedded)


def test_the_old_name_of_the_class_token_warns():
    with pytest.warns(FutureWarning, match="pool='class' is now called pool='cls'"):
        model = models.vit(7, 12, 1, 3, channels=3, patch_size=2, pool="class")
    assert model.pools_class_token


def test_unknown_options_are_refused_by_name():
    model = models.vit(7, 12, 1, 3, channels=3, patch_size=2)
    batch = patch_batch(random_images())
    with pytest.raises(TypeError, match="unexpected option 'bais': did you mean 'bias'"):
        model(batch, patterns.Complete(), bais=None)
    with pytest.raises(TypeError, match="'register'"):
        models.vit(7, channels=3, patch_size=2, register=1)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_compiled_model_gives_the_same(pool):
    torch.manual_seed(0)
    model = models.vit(7, 12, 1, 3, channels=3, patch_size=2, pool=pool).eval()
    batch = patch_batch(random_images([(6, 10)] * 3))
    adjacency = gf.complete(batch.lengths)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager")(batch, adjacency)
        torch.testing.assert_close(compiled, model(batch, adjacency))


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_model_of_fixed_shapes_is_exported(pool):
    torch.manual_seed(0)
    model = models.vit(7, 12, 1, 3, channels=3, patch_size=2, pool=pool).eval()
    batch = patch_batch(random_images([(6, 10)] * 3))
    adjacency = gf.complete(batch.lengths)

    class OfPatches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            one = Batch(pos=batch.pos, lengths=batch.lengths, shapes=batch.shapes)
            one.x = x
            return self.model(one, adjacency)

    with torch.no_grad():
        exported = torch.export.export(OfPatches(), (batch.x,), strict=False).module()
        other = torch.randn_like(batch.x)
        batch.x = other
        torch.testing.assert_close(exported(other), model(batch, adjacency))
