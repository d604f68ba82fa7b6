"""Patches and images, convolutions over packed images, places on grids."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images
from torch import nn
from torch.nn import functional as F

from graphformer.nn import Convolutions, GridPositions, PatchEmbedding, patchify, unpatchify
from graphformer.nn.patches import resize_table


def test_unpatchify_undoes_patchify():
    images = torch.randn(3, 2, 10, 15)
    assert torch.equal(unpatchify(patchify(images, 5), 5), images)


def test_a_linear_map_of_patches_is_a_strided_convolution():
    images, convolution = torch.randn(3, 2, 10, 15), nn.Conv2d(2, 7, 5, stride=5)
    linear = nn.Linear(50, 7)
    linear.load_state_dict(
        {"weight": convolution.weight.flatten(1), "bias": convolution.bias}, strict=True
    )
    expected = convolution(images).permute(0, 2, 3, 1)
    torch.testing.assert_close(linear(patchify(images, 5)), expected)


def test_convolutions_run_over_whole_images_of_mixed_shapes():
    module = Convolutions(3 * 16, 13, 4, channels=(5, 8), depth=1)
    images = random_images([(8, 12), (4, 20), (8, 12)])
    batch = patch_batch(images, 4)
    x = module(batch.x, batch.shapes)
    expected = torch.cat([module.layers(i[None])[0].flatten(1).T for i in images])
    torch.testing.assert_close(x, expected)
    assert x.shape == (6 + 5 + 6, 13)


def test_convolutions_refuse_other_patches():
    with pytest.raises(ValueError, match="patch_size is 6.*power of 2"):
        Convolutions(36, 8, 6)
    with pytest.raises(ValueError, match="num_features is 17.*patch_size must be that of the data"):
        Convolutions(17, 8, 4)
    with pytest.raises(ValueError, match="channels must name 2 widths"):
        Convolutions(16, 8, 4, channels=(3,))


def test_places_of_their_own_grid_are_looked_up_and_others_interpolated():
    positions = GridPositions(11, (3, 5))
    batch = patch_batch(random_images([(6, 10), (2, 14), (6, 10)]))
    encoded = positions(batch.pos, batch.shapes, batch.lengths)
    own, other, again = encoded.split(list(batch.lengths))
    assert torch.equal(own, positions.table.flatten(0, 1))
    assert torch.equal(own, again)
    image = positions.table.permute(2, 0, 1)[None]
    expected = F.interpolate(image, size=(1, 7), mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(other, expected)


def test_some_places_of_an_image_are_encoded_as_in_all_of_it():
    positions = GridPositions(11, (3, 5))
    batch = patch_batch(random_images([(6, 10), (6, 10)]))
    encoded = positions(batch.pos, batch.shapes, batch.lengths)
    some = torch.tensor([2, 3, 11, 15, 29])
    visible = positions(batch.pos[some], batch.shapes, (3, 2))
    assert torch.equal(visible, encoded[some])


def test_resizing_keeps_constants_and_corners_apart():
    table = torch.arange(12.0).reshape(3, 4, 1)
    assert resize_table(table, (3, 4)) is table
    wide = resize_table(table, (7, 11))
    assert wide.shape == (7, 11, 1)
    assert (wide.diff(dim=1) >= -0.5).all()
    torch.testing.assert_close(resize_table(torch.ones(3, 4, 2), (5, 2)), torch.ones(5, 2, 2))


def test_an_embedding_says_what_the_batch_lacks():
    batch = patch_batch(random_images())
    embedding = PatchEmbedding(nn.Linear(12, 7), GridPositions(7, (3, 5)))
    assert embedding(batch).shape == (len(batch.x), 7)
    del batch.shapes
    with pytest.raises(ValueError, match=r"batch\.shapes: got None, .* GridPositions"):
        embedding(batch)
