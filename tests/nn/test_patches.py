"""Patches and images, convolutions over packed images, positions on grids."""

from __future__ import annotations

import pytest
import torch
from helpers.images import patch_batch, random_images
from torch import nn
from torch.nn import functional as F

from graphformer.nn import (
    Convolutions,
    GridPositions,
    PatchEmbedding,
    Positions,
    patchify,
    patchify_videos,
    unpatchify,
)
from graphformer.nn.patches import by_shape, resize_table


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
    with pytest.raises(ValueError, match="patch_size: got 6, expected a power of 2"):
        Convolutions(36, 8, 6)
    with pytest.raises(ValueError, match="num_features: got 17, .* patch_size of the data"):
        Convolutions(17, 8, 4)
    with pytest.raises(ValueError, match=r"channels: got \[3\], expected 2 widths"):
        Convolutions(16, 8, 4, channels=(3,))


def test_positions_of_the_learned_grid_are_looked_up_and_others_interpolated():
    positions = GridPositions(11, (3, 5))
    batch = patch_batch(random_images([(6, 10), (2, 14), (6, 10)]))
    encoded = positions(batch.pos, batch.shapes, batch.lengths)
    own, other, again = encoded.split(list(batch.lengths))
    assert torch.equal(own, positions.table.flatten(0, 1))
    assert torch.equal(own, again)
    image = positions.table.permute(2, 0, 1)[None]
    expected = F.interpolate(image, size=(1, 7), mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(other, expected)


def test_a_subset_of_positions_is_encoded_as_in_the_whole_image():
    positions = GridPositions(11, (3, 5))
    batch = patch_batch(random_images([(6, 10), (6, 10)]))
    encoded = positions(batch.pos, batch.shapes, batch.lengths)
    some = torch.tensor([2, 3, 11, 15, 29])
    visible = positions(batch.pos[some], batch.shapes, (3, 2))
    assert torch.equal(visible, encoded[some])


def test_resizing_keeps_constants_and_order():
    table = torch.arange(12.0).reshape(3, 4, 1)
    assert resize_table(table, (3, 4)) is table
    wide = resize_table(table, (7, 11))
    assert wide.shape == (7, 11, 1)
    assert (wide.diff(dim=1) >= -0.5).all()
    torch.testing.assert_close(resize_table(torch.ones(3, 4, 2), (5, 2)), torch.ones(5, 2, 2))


def test_absent_fields_are_named():
    batch = patch_batch(random_images())
    embedding = PatchEmbedding(nn.Linear(12, 7), GridPositions(7, (3, 5)))
    assert embedding(batch).shape == (len(batch.x), 7)
    del batch.shapes
    with pytest.raises(ValueError, match=r"batch\.shapes: got None, .* GridPositions"):
        embedding(batch)


@pytest.mark.parametrize(("size", "height"), [(4, 10), (0, 10), (5, 11)])
def test_patches_must_divide_the_image(size, height):
    with pytest.raises(ValueError, match=f"patch_size: got {size}, .* {height} x 15"):
        patchify(torch.zeros(1, 1, height, 15), size)


def test_packed_grids_of_one_shape_are_one_batch():
    calls = []

    def shrink(grid):
        calls.append(grid.shape)
        return grid[:, ::2, :1]

    x = torch.arange(2 * 15.0).unsqueeze(1)
    cells, shapes = by_shape(x, [(3, 5), (3, 5)], shrink)
    assert (calls, shapes) == ([(2, 3, 5, 1)], [(2, 1), (2, 1)])
    assert cells.flatten().tolist() == [0, 10, 15, 25]
    mixed, shapes = by_shape(x, [(3, 5), (5, 1), (2, 5)], shrink)
    assert shapes == [(2, 1), (3, 1), (1, 1)]
    assert mixed.flatten().tolist() == [0, 10, 15, 17, 19, 20]
    some, shapes = by_shape(x, [(0, 0), (3, 5), (0, 0), (3, 5)], shrink)
    assert shapes == [(0, 0), (2, 1), (0, 0), (2, 1)]
    assert torch.equal(some, cells)


def test_a_grid_needs_rows_and_columns():
    with pytest.raises(ValueError, match="shape: got 0 x 5, expected at least 1 x 1"):
        GridPositions(3, (0, 5))


def test_an_embedding_is_the_sum_of_patches_and_positions():
    batch = patch_batch(random_images([(6, 10), (2, 14)]))
    linear, grid = nn.Linear(12, 7), GridPositions(7, (3, 5))
    encoded = grid(batch.pos, batch.shapes, batch.lengths)
    torch.testing.assert_close(PatchEmbedding(linear, grid)(batch), linear(batch.x) + encoded)
    axial = Positions(7, 9, axes=2)
    torch.testing.assert_close(
        PatchEmbedding(linear, axial)(batch), linear(batch.x) + axial(batch.pos)
    )
    assert torch.equal(PatchEmbedding(linear, None)(batch), linear(batch.x))
    with pytest.raises(ValueError, match=r"batch\.x: got shape .*, expected patches \[N, 13\]"):
        PatchEmbedding(nn.Linear(13, 7), None)(batch)


def test_a_convolutional_embedding_reads_the_shapes():
    stem = Convolutions(3 * 4, 7, 2)
    batch = patch_batch(random_images([(6, 10), (2, 14)]))
    assert torch.equal(PatchEmbedding(stem, None)(batch), stem(batch.x, batch.shapes))
    del batch.shapes
    with pytest.raises(ValueError, match=r"batch\.shapes: got None, .* Convolutions"):
        PatchEmbedding(stem, None)(batch)


def test_a_linear_map_of_video_patches_is_a_convolution():
    videos = torch.randn(2, 3, 4, 6, 10)
    convolution = nn.Conv3d(3, 7, 2, 2)
    linear = nn.Linear(3 * 2 * 2 * 2, 7)
    linear.weight.data = convolution.weight.data.flatten(1)
    linear.bias.data = convolution.bias.data
    expected = convolution(videos).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(linear(patchify_videos(videos, 2, 2)), expected)


def test_video_patches_of_several_frames_by_hand():
    videos = torch.arange(1 * 2 * 6 * 3 * 6).reshape(1, 2, 6, 3, 6)
    patches = patchify_videos(videos, 3, 2)
    assert patches.shape == (1, 3, 1, 2, 2 * 2 * 3 * 3)
    assert torch.equal(patches[0, 2, 0, 1], videos[0, :, 4:6, 0:3, 3:6].flatten())
    with pytest.raises(ValueError, match="patch_frames: got 4, expected a divisor of the 6 frames"):
        patchify_videos(videos, 3, 4)


def test_patches_of_another_size_are_named():
    module = Convolutions(3 * 16, 13, 4)
    with pytest.raises(ValueError, match="x: got patches of 192 numbers, expected 48, for"):
        module(torch.zeros(6, 192), [(2, 3)])
