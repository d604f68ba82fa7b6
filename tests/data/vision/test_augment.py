"""Changes of images: what each does, and that the chance is repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.vision.augment import Augmentation, crop, cutmix, erase, flip, mixup
from graphformer.data.vision.samples import ImageSamples


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_flip_mirrors_about_half_of_the_images():
    images = torch.randn(101, 2, 3, 5)
    flipped = flip(images, chance())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 30 < sum(mirrored) < 70


def test_crop_moves_each_image_by_at_most_its_padding():
    images = torch.randn(53, 2, 5, 7)
    moved = crop(images, chance(), 2)
    padded = torch.nn.functional.pad(images, (2,) * 4)
    offsets = set()
    for image, source in zip(moved, padded, strict=True):
        (place,) = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(image, source[:, y : y + 5, x : x + 7])
        ]
        offsets.add(place)
    assert len(offsets) > 10


def test_erase_puts_noise_into_one_rectangle():
    images = torch.full((41, 3, 11, 13), 100.0)
    erased = erase(images, chance(), 0.5)
    changed = (erased != 100).all(1)
    touched = changed.flatten(1).any(1)
    assert 10 < touched.sum() < 31
    for mask in changed[touched]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert mask.sum() == area
    assert (images == 100).all()


def test_mixup_mixes_with_the_images_that_it_names():
    images = torch.randn(7, 1, 2, 3)
    mixed, other, share = mixup(images, chance(), 0.4)
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[other])


def test_batches_are_changed_anew_each_epoch_and_repeatably_from_the_middle():
    images, labels = torch.randn(23, 1, 4, 6), torch.arange(23)
    augmentation = Augmentation(["crop:1", "flip", "erase:0.5", "mixup:0.3"], seed=5)

    def loader() -> BatchLoader:
        samples = ImageSamples(images, labels, 2, np.zeros(1), np.ones(1), augmentation)
        return BatchLoader(samples, BatchSampler(23, 5, shuffle=True, seed=3))

    whole = loader()
    first = [batch.x for batch in whole]
    whole.sampler.set_epoch(1)
    second = [batch.x for batch in whole]
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    resumed = loader()
    resumed.sampler.set_epoch(1)
    resumed.load_state_dict({"epoch": 1, "batches": 3})
    rest = [batch.x for batch in resumed]
    assert len(rest) == 2
    assert all(torch.equal(a, b) for a, b in zip(rest, second[3:], strict=True))
    batch = next(iter(loader()))
    assert batch.y_other.shape == (5,)
    assert 0 <= batch.share <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blur", "augment: got 'blur', expected 'flip'"),
        ("crop:x", "expected a number"),
        ("erase:2", "from 0 to 1"),
    ],
)
def test_unknown_changes_are_named(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        Augmentation([name])


def test_random_numbers_depend_on_seed_batch_and_epoch():
    index = np.arange(3)
    draws = {
        Augmentation(["flip"], seed=seed).generator(index + shift, epoch).random()
        for seed in (0, 1)
        for shift in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert len(draws) == 12
    again = Augmentation(["flip"], seed=1).generator(index + 1, 2).random()
    assert again in draws


def test_cutmix_replaces_one_rectangle_by_another_image():
    images = torch.arange(7.0)[:, None, None, None].expand(7, 2, 11, 13)
    seen = set()
    for seed in range(5):
        generator = np.random.default_rng(seed)
        mixed, other, share = cutmix(images, generator, 1.0)
        foreign = mixed[:, 0] != images[:, 0]
        moved = other != torch.arange(7)
        rectangle = foreign[moved][0]
        assert (foreign[moved] == rectangle).all()
        assert not foreign[~moved].any()
        rows, columns = rectangle.any(1), rectangle.any(0)
        assert rectangle.equal(rows[:, None] & columns[None])
        assert share == pytest.approx(1 - rectangle.float().mean().item())
        values = mixed[moved][:, 0][:, rectangle]
        assert (values == other[moved].float()[:, None]).all()
        seen.add(share)
    assert len(seen) > 2


def test_both_mixers_take_turns():
    augmentation = Augmentation(["cutmix:1", "mixup:0.3"], seed=5)
    images = torch.rand(7, 1, 5, 5)
    kinds = set()
    for seed in range(13):
        mixture = augmentation.mix(images, np.random.default_rng(seed))
        assert mixture is not None
        mixed, other, _ = mixture
        pasted = (mixed == images) | (mixed == images[other])
        kinds.add(bool(pasted.all()))
    assert kinds == {True, False}
    assert Augmentation(["flip"]).mix(images, np.random.default_rng(0)) is None
