"""Mean and deviation of pixels."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch

from graphformer.data.vision import statistics
from graphformer.data.vision.statistics import denormalize, pixel_statistics
from graphformer.nn.patches import patchify


def test_channels_are_scaled_apart_and_constants_stay_finite() -> None:
    images = torch.stack([torch.rand(7, 4, 4), 100 + 10 * torch.rand(7, 4, 4), torch.ones(7, 4, 4)])
    mean, std = pixel_statistics(images.transpose(0, 1))
    assert mean.shape == (3,)
    assert 100 < mean[1] < 110
    assert std[2] == 1.0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("chunk", [1, 50, 10**6])
def test_statistics_by_parts_are_those_of_all_pixels(dtype, chunk, monkeypatch):
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    images = (255 * torch.rand(13, 3, 5, 7)).to(dtype)
    pixels = images.transpose(0, 1).flatten(1).double()
    for form in (images, list(images)):
        mean, std = pixel_statistics(form)
        np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-12)
        np.testing.assert_allclose(std, pixels.std(1), rtol=1e-12)


def test_memory_is_bounded_by_one_image():
    class Images(Sequence[torch.Tensor]):
        """Images that count how many of them are alive at once."""

        alive = most = 0

        def __len__(self) -> int:
            return 53

        def __getitem__(self, i: int) -> torch.Tensor:
            image = torch.full((3, 5, 7), i, dtype=torch.uint8)
            Images.alive += 1
            Images.most = max(Images.most, Images.alive)
            weakref.finalize(image, Images.done)
            return image

        @classmethod
        def done(cls) -> None:
            cls.alive -= 1

    mean, _ = pixel_statistics(Images())
    assert Images.most <= 2
    assert mean == pytest.approx([26.0] * 3)


def test_files_of_a_long_sequence_are_read_evenly():
    class Ramp(Sequence[torch.Tensor]):
        read: ClassVar[list[int]] = []

        def __len__(self) -> int:
            return 1009

        def __getitem__(self, i: int) -> torch.Tensor:
            self.read.append(i)
            return torch.full((1, 2, 2), float(i))

    mean, _ = pixel_statistics(Ramp())
    assert len(Ramp.read) == statistics.MAX_FILES
    assert mean == pytest.approx([504.0], rel=0.01)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_pixels_that_are_not_finite_are_refused(value):
    images = torch.rand(5, 1, 3, 3)
    images[3, 0, 1, 1] = value
    with pytest.raises(ValueError, match="images: got pixels that are not finite"):
        pixel_statistics(images)


def test_scaling_is_undone_by_channel():
    images = 255 * torch.rand(7, 3, 4, 6)
    mean, std = pixel_statistics(images)
    scaled = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    patches = denormalize(patchify(scaled.float(), 2), mean, std, 2)
    torch.testing.assert_close(patches, patchify(images, 2), atol=1e-3, rtol=0)
    assert denormalize(torch.full((1, 12), -1e3), mean, std, 2).max() == 0
