"""Packing of token sequences and of images; the lazy exports of `graphformer.data`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

import graphformer.data
from graphformer.batch_type import Batch
from graphformer.data.batch import (
    pack_images,
    pack_nodes,
    pack_tokens,
    pack_videos,
    positions_in_samples,
    slice_batch,
    source_batch,
)
from graphformer.nn import patchify

IDS = [[2, 3, 5], [], [7], [11, 13]]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor])
def test_token_sequences_of_every_form_give_the_same_batch(form: type) -> None:
    batch = pack_tokens([form(ids) for ids in IDS])
    assert isinstance(batch, Batch)
    assert batch.x.dtype == batch.pos.dtype == torch.int64
    assert batch.x.tolist() == [2, 3, 5, 7, 11, 13]
    assert batch.pos.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.lengths == (3, 0, 1, 2)
    assert batch.num_nodes == 6


def test_mixed_forms_and_narrow_integers_are_packed() -> None:
    batch = pack_tokens([np.array([2, 3], np.uint16), torch.tensor([5], dtype=torch.int32)])
    assert batch.x.dtype == torch.int64
    assert batch.x.tolist() == [2, 3, 5]


@pytest.mark.parametrize("sequences", [[], [[]], [[], []]])
def test_no_tokens(sequences: list[list[int]]) -> None:
    batch = pack_tokens(sequences)
    assert batch.x.shape == batch.pos.shape == (0,)
    assert batch.x.dtype == torch.int64
    assert batch.lengths == (0,) * len(sequences)


@pytest.mark.parametrize("device", ["cpu", "meta", GPU])
def test_the_device_argument_moves_all_tensors(device: str) -> None:
    tokens = pack_tokens(IDS, device=device)
    images = pack_images(torch.zeros(2, 3, 4, 6), 2, device=device)
    for tensor in (tokens.x, tokens.pos, images.x, images.pos):
        assert tensor.device.type == device


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
def test_nodes_with_features_keep_their_type(form: type) -> None:
    features = np.arange(15, dtype=np.float32).reshape(5, 3)
    batch = pack_nodes(form(features), np.array([2, 0, 3]))
    assert batch.x.dtype == torch.float32
    assert batch.x.tolist() == features.tolist()
    assert batch.pos.tolist() == [0, 1, 0, 1, 2]
    assert batch.lengths == (2, 0, 3)
    assert {type(n) for n in batch.lengths} == {int}


@pytest.mark.parametrize("lengths", [[], [0], [3], [0, 5, 0, 1, 7]])
def test_positions_count_from_0_in_each_sample(lengths: list[int]) -> None:
    expected = [i for n in lengths for i in range(n)]
    found = positions_in_samples(lengths)
    assert found.tolist() == expected
    assert found.dtype == np.int64


def images_of(shapes: list[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(3, height, width, generator=generator) for height, width in shapes]


@pytest.mark.parametrize("shapes", [[(6, 10)], [(6, 10), (2, 14), (6, 10), (10, 2)]])
def test_images_are_packed_patch_by_patch(shapes: list[tuple[int, int]]) -> None:
    images = images_of(shapes)
    batch = pack_images(images, 2)
    assert isinstance(batch, Batch)
    assert batch.shapes == tuple((height // 2, width // 2) for height, width in shapes)
    assert batch.lengths == tuple(rows * columns for rows, columns in batch.shapes)
    nodes = iter(zip(batch.x, batch.pos, strict=True))
    for image, (rows, columns) in zip(images, batch.shapes, strict=True):
        for row in range(rows):
            for column in range(columns):
                x, pos = next(nodes)
                patch = image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                assert torch.equal(x, patch.flatten())
                assert pos.tolist() == [row, column]
    assert next(nodes, None) is None


def test_one_tensor_of_images_equals_a_list_of_them() -> None:
    images = torch.stack(images_of([(6, 15)] * 5))
    one, several = pack_images(images, 3), pack_images(list(images), 3)
    assert torch.equal(one.x, several.x)
    assert torch.equal(one.x, patchify(images, 3).flatten(0, 2))
    assert torch.equal(one.pos, several.pos)
    assert (one.lengths, one.shapes) == (several.lengths, several.shapes)


def test_positions_of_one_batch_are_not_shared_with_the_next() -> None:
    first = pack_images(torch.zeros(1, 1, 4, 6), 2)
    first.pos += 101
    assert pack_images(torch.zeros(1, 1, 4, 6), 2).pos.max() == 2


def test_images_that_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="images: got none"):
        pack_images([], 2)
    for images in (torch.zeros(1, 3, 4, 5), [torch.zeros(3, 4, 5)]):
        with pytest.raises(ValueError, match="patch_size.*2.*4 x 5"):
            pack_images(images, 2)


def test_every_exported_name_is_found_and_an_unknown_one_is_not() -> None:
    for name in graphformer.data.__all__:
        assert getattr(getattr(graphformer.data, name), "__name__", name) == name
    assert dir(graphformer.data) == sorted(graphformer.data._HOME)
    with pytest.raises(AttributeError, match="no attribute 'TextFiles'"):
        _ = graphformer.data.TextFiles


def test_the_old_name_of_the_sampler_warns() -> None:
    with pytest.warns(FutureWarning, match="BudgetOrder is now called .*TokenBudgetSampler"):
        assert graphformer.data.BudgetOrder is graphformer.data.TokenBudgetSampler


@pytest.mark.parametrize(
    ("code", "imported"),
    [("pack_tokens", False), ("import_all()", True)],
)
def test_packing_does_not_import_lightning(code: str, imported: bool) -> None:
    program = f"import sys, graphformer.data as d; d.{code}; print('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == str(imported), done.stderr


def test_some_samples_of_a_batch():
    tokens = slice_batch(pack_tokens(IDS), 1, 4)
    assert (tokens.x.tolist(), tokens.pos.tolist()) == ([7, 11, 13], [0, 0, 1])
    assert tokens.lengths == (0, 1, 2)
    assert getattr(tokens, "shapes", None) is None
    pictures = [torch.randn(3, 2 * rows, 2 * columns) for rows, columns in ((1, 5), (3, 2), (2, 2))]
    images = slice_batch(pack_images(pictures, 2), 1, 3)
    expected = pack_images(pictures[1:], 2)
    assert torch.equal(images.x, expected.x)
    assert torch.equal(images.pos, expected.pos)
    assert (images.lengths, images.shapes) == (expected.lengths, expected.shapes)
    assert slice_batch(pack_tokens(IDS), 2, 2).lengths == ()


def test_the_source_of_a_batch():
    images = pack_images(torch.randn(2, 3, 4, 6), 2)
    batch = pack_tokens(IDS[:2])
    batch.source, batch.source_lengths = images.x, torch.tensor(images.lengths)
    source = source_batch(batch)
    assert torch.equal(source.x, images.x)
    assert source.lengths == (6, 6)
    assert getattr(source, "pos", None) is None
    assert getattr(source, "shapes", None) is None
    batch.source_pos, batch.source_shapes = images.pos, images.shapes
    source = source_batch(batch)
    assert torch.equal(source.pos, images.pos)
    assert source.shapes == ((2, 3), (2, 3))


def test_videos_of_one_and_of_several_sizes() -> None:
    videos = torch.randn(2, 3, 4, 6, 10)
    dense, listed = pack_videos(videos, 2, 2), pack_videos(list(videos), 2, 2)
    assert dense.shapes == listed.shapes == ((2, 3, 5),) * 2
    assert dense.lengths == listed.lengths == (30, 30)
    assert torch.equal(dense.x, listed.x)
    assert dense.pos[:30].tolist() == [
        [t, y, x] for t in (0, 1) for y in range(3) for x in range(5)
    ]
    mixed = pack_videos([videos[0], torch.zeros(3, 1, 2, 2)], 2, 1)
    assert mixed.shapes == ((4, 3, 5), (1, 1, 1))
    assert mixed.x.shape == (61, 3 * 4)
    with pytest.raises(ValueError, match="videos: got none"):
        pack_videos([], 2)
