"""Images as samples: packed by the batch, scaled, and selected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data.vision.augment import Augmentation
from graphformer.data.vision.samples import ImageSamples, Subset, common_size, select_images


def test_images_of_several_sizes_are_packed_in_the_order_asked_for() -> None:
    sizes = [(4, 6), (2, 2), (4, 6), (6, 2)]
    images = [torch.full((3, *size), float(i)) for i, size in enumerate(sizes)]
    labels = torch.tensor([5, 3, 2, 7])
    samples = ImageSamples(images, labels, 2, np.zeros(3), np.ones(3))
    batch = samples[torch.tensor([2, 1, 3])]
    assert batch.shapes == ((2, 3), (1, 1), (3, 1))
    assert batch.lengths == (6, 1, 3)
    assert batch.x[:, 0].tolist() == [2.0] * 6 + [1.0] + [3.0] * 3
    assert batch.pos[7:].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert batch.y.tolist() == [2, 3, 7]


def test_single_size_and_several_sizes_give_the_same_batch():
    images = torch.randn(5, 3, 4, 6)
    arguments = torch.arange(5), 2, np.arange(3.0), np.arange(1.0, 4)
    index = torch.tensor([3, 0, 4])
    dense, listed = (ImageSamples(form, *arguments)[index] for form in (images, list(images)))
    assert torch.equal(dense.x, listed.x)
    assert torch.equal(dense.pos, listed.pos)
    assert (dense.lengths, dense.shapes) == (listed.lengths, listed.shapes)
    expected = (images[3, 1, 0, 0] - 1) / 2
    torch.testing.assert_close(dense.x[0, 4], expected)


def test_augmentation_depends_on_the_epoch_also_for_batches_of_one():
    samples = ImageSamples(
        torch.randn(7, 1, 8, 8),
        torch.arange(7),
        2,
        np.zeros(1),
        np.ones(1),
        Augmentation(["crop:3", "flip"], seed=5),
    )
    index = torch.tensor([2])

    def versions() -> list[bytes]:
        found = []
        for epoch in range(11):
            samples.set_epoch(epoch)
            found.append(samples[index].x.numpy().tobytes())
        return found

    assert len(set(versions())) > 8
    assert versions() == versions()


def test_mixup_of_several_sizes_is_refused():
    images = [torch.randn(1, 4, 4), torch.randn(1, 4, 6)]
    mixup = Augmentation(["mixup:0.3"])
    samples = ImageSamples(images, torch.arange(2), 2, np.zeros(1), np.ones(1), mixup)
    with pytest.raises(ValueError, match="augment: got 'mixup' for images of 2 sizes"):
        samples[torch.arange(2)]


def test_images_are_selected_without_reading_them():
    images = [torch.full((1, 2, 2), float(i)) for i in range(5)]
    some = select_images(images, torch.tensor([4, 1]))
    assert isinstance(some, Subset)
    assert [float(image[0, 0, 0]) for image in some] == [4, 1]
    dense = torch.stack(images)
    assert torch.equal(select_images(dense, torch.tensor([4, 1])), dense[[4, 1]])
    assert common_size(dense) == (2, 2)
    assert common_size(some) is None
