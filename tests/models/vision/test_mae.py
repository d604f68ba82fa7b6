"""Masked autoencoders: what the encoder sees, and what is told from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import patch_batch, random_images

import graphformer as gf
from graphformer import models, patterns
from graphformer.models.vision.mae import induced_adjacency, visible_batch
from graphformer.tasks.vision.masked_image import (
    sample_visible_mask,
)

PATTERNS = {"complete": patterns.Complete(), "grid": patterns.Grid(1)}


def visible_of(batch, seed=0):
    return sample_visible_mask(batch.lengths, 0.75, np.random.default_rng(seed))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_encoder_sees_the_visible_patches_alone(pattern, pool):
    torch.manual_seed(0)
    model = models.mae(
        12, 2, 3, channels=3, patch_size=2, decoder_dim=8, decoder_heads=2, pool=pool
    ).eval()
    batch, pattern = patch_batch(random_images()), PATTERNS[pattern]
    visible = visible_of(batch)
    sizes = []
    model.encoder.transformer.register_forward_hook(lambda m, args, out: sizes.append(len(args[0])))
    told = model(batch, pattern(batch), visible)
    assert sizes == [int(visible.sum()) + 4 * (pool == "cls")]
    assert told.shape == batch.x.shape
    hidden = batch.clone()
    hidden.x[~visible] = torch.nan
    assert torch.equal(model(hidden, pattern(hidden), visible), told)


def test_a_batch_gives_what_single_images_give():
    torch.manual_seed(0)
    model = models.mae(12, 2, 3, channels=3, patch_size=2, decoder_dim=8, decoder_heads=2).eval()
    images = random_images()
    batch = patch_batch(images)
    visible = visible_of(batch)
    together = model(batch, gf.grid(batch.shapes), visible)
    parts = visible.split(list(batch.lengths))
    alone = []
    for image, part in zip(images, parts, strict=True):
        one = patch_batch([image])
        alone.append(model(one, gf.grid(one.shapes), part))
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_edges_among_visible_patches():
    batch = patch_batch(random_images())
    visible = visible_of(batch)
    sizes = visible_batch(batch, visible).lengths
    adjacency = gf.grid(batch.shapes, radius=2)
    expected = adjacency.to_mask()[visible][:, visible]
    assert torch.equal(induced_adjacency(adjacency, visible, sizes).to_mask(), expected)
    whole = induced_adjacency(gf.complete(batch.lengths), visible, sizes)
    assert torch.equal(whole.to_mask(), gf.complete(sizes).to_mask())


def test_it_learns_to_tell_a_patch_from_another():
    torch.manual_seed(0)
    model = models.mae(
        16, 1, 2, channels=1, patch_size=2, decoder_dim=16, decoder_depth=1, decoder_heads=2
    )
    images = [torch.full((1, 8, 8), float(value)) for value in (-1, 1, 2, -2)]
    batch = patch_batch(images)
    adjacency = gf.complete(batch.lengths)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(60):
        visible = visible_of(batch, step)
        loss = (model(batch, adjacency, visible) - batch.x)[~visible].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5  # 2.5 by the mean of all


def test_a_classifier_starts_from_the_encoder(tmp_path):
    from graphformer.tasks.warm_start import load_pretrained

    pretrained = models.mae(12, 2, 3, channels=3, patch_size=2)
    weights = {f"network.{name}": weight for name, weight in pretrained.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "run.ckpt")
    model = models.vit(5, 12, 2, 3, channels=3, patch_size=2, positions="sincos")
    kept = load_pretrained(model, tmp_path / "run.ckpt")
    assert kept == ["head.linear.bias", "head.linear.weight"]
    for name, weight in pretrained.encoder.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="pool: got 'klass', expected 'mean' or 'cls'"):
        models.mae(8, channels=3, patch_size=2, pool="klass")


def test_all_patches_are_visible_by_default():
    torch.manual_seed(0)
    model = models.mae(12, 1, 3, channels=3, patch_size=2).eval()
    batch = patch_batch(random_images())
    visible = torch.ones(len(batch.x), dtype=torch.bool)
    adjacency = gf.complete(batch.lengths)
    assert torch.equal(model(batch, adjacency), model(batch, adjacency, visible))


def test_learned_positions_are_those_of_whole_images():
    torch.manual_seed(0)
    model = models.mae(12, 1, 3, channels=3, patch_size=2, positions="learned", shape=(3, 5))
    images = random_images()
    batch = patch_batch(images)
    visible = visible_of(batch)
    together = model.eval()(batch, gf.complete(batch.lengths), visible)
    first, rows = patch_batch(images[:1]), batch.lengths[0]
    alone = model(first, gf.complete(first.lengths), visible[:rows])
    torch.testing.assert_close(together[:rows], alone, atol=1e-5, rtol=1e-5)


def test_edges_of_each_head_are_induced():
    near, loops = gf.grid([(2, 3)]), gf.window(6, 0)
    keep = torch.tensor([True, False, True, True, True, False])
    part = induced_adjacency(gf.adjacency.HeadEdges.of(near, loops), keep, (4,))
    expected = [a.to_mask()[keep][:, keep] for a in (near, loops)]
    source, target = part.edge_index
    for mask, in_head in zip(expected, part.heads.T, strict=True):
        found = torch.zeros(4, 4, dtype=torch.bool)
        found[target[in_head], source[in_head]] = True
        assert torch.equal(found, mask)
