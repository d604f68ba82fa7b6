"""RandAugment: each transform against its definition, and the same draws for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data.vision.augment import Augmentation
from graphformer.data.vision.rand_augment import _recolour, _recoloured, _warp, rand_augment


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def test_level_0_moves_nothing_and_higher_levels_do() -> None:
    x = images(17)
    names = np.array(["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
    torch.testing.assert_close(_warp(x[:5], names, np.zeros(5)), x[:5], atol=1e-5, rtol=0)
    changed = rand_augment(x, np.random.default_rng(0), 9.0)
    assert changed.shape == x.shape
    assert torch.isfinite(changed).all()
    assert (changed - x).abs().flatten(1).amax(1).count_nonzero() > 10
    again = rand_augment(x, np.random.default_rng(0), 9.0)
    torch.testing.assert_close(again, changed, rtol=0, atol=0)
    torch.testing.assert_close(x, images(17), rtol=0, atol=0)  # not in place


def test_translation_moves_by_pixels() -> None:
    x = images(1)
    # 2 * 0.33 * s of a width 2 in coordinates: s = 1 / (0.33 * 12) is one pixel of 12
    moved = _warp(x, np.array(["translate_x"]), np.array([1 / (0.33 * 12)]))
    torch.testing.assert_close(moved[..., :-1], x[..., 1:], atol=1e-4, rtol=0)
    assert moved[..., -1].abs().max() < 1e-4


def test_colours_keep_the_range_of_the_image() -> None:
    x = images(6)
    names = np.array(
        ["brightness", "contrast", "sharpness", "posterize", "solarize", "autocontrast"]
    )
    changed = _recolour(x, names, np.full(6, 0.7))
    for before, after in zip(x, changed, strict=True):
        assert after.min() >= before.min() - 1e-5
        assert after.max() <= before.max() + 1e-5
        assert (after - before).abs().max() > 1e-3


def test_definitions() -> None:
    unit = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1))
    assert len(_recoloured(unit, "posterize", 1.0).unique()) <= 16
    solarized = _recoloured(unit, "solarize", 0.25)
    torch.testing.assert_close(solarized, torch.where(unit > 0.75, 1 - unit, unit))
    stretched = _recoloured(unit, "autocontrast", 0.1)
    assert stretched.amin((1, 2)).tolist() == [0.0] * 3
    assert stretched.amax((1, 2)).tolist() == pytest.approx([1.0] * 3)
    torch.testing.assert_close(_recoloured(unit, "brightness", -1.0), unit * 0.1)


def test_by_name() -> None:
    augmentation = Augmentation(["randaugment:5"], seed=3)
    generators = (augmentation.generator(np.arange(5), epoch) for epoch in (1, 1, 2))
    first, same, other = (augmentation(images(), generator) for generator in generators)
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert not torch.equal(first, other)
    for wrong in ("randaugment", "randaugment:11", "cutmix:0"):
        with pytest.raises(ValueError, match=f"augment: got '{wrong}', expected a number from"):
            Augmentation([wrong])
