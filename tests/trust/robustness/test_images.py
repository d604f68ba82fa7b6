"""Corruptions and PGD."""

from __future__ import annotations

import pytest
import torch

from graphformer.trust.robustness import CORRUPTIONS, SEVERITIES, corrupt, pgd


def images() -> torch.Tensor:
    return torch.rand(3, 2, 11, 13, generator=torch.Generator().manual_seed(0))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name: str):
    original = images()
    changes = [
        (corrupt(original, name, severity, generator=generator()) - original).abs().mean().item()
        for severity in SEVERITIES
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0
    strongest = corrupt(original, name, 5, generator=generator())
    assert 0 <= strongest.min() <= strongest.max() <= 1


def test_blur_keeps_a_constant_image():
    flat = torch.full((1, 3, 7, 5), 0.4)
    assert torch.allclose(corrupt(flat, "blur", 5, generator=generator()), flat)


def test_an_unknown_severity_is_refused():
    with pytest.raises(ValueError, match="name and severity: got 'noise' and 6"):
        corrupt(images(), "noise", 6, generator=generator())


def test_pgd_reaches_the_worst_corner_of_a_linear_loss():
    original = images().clamp(0.2, 0.8)
    weight = torch.randn(original.shape, generator=generator())
    found = pgd(lambda x: (weight * x).sum(), original, radius=0.1, generator=generator())
    assert torch.allclose(found, original + 0.1 * weight.sign())


def test_pgd_stays_within_its_radius_and_the_range_of_pixels():
    original = images()
    found = pgd(lambda x: x.square().sum(), original, radius=0.3, generator=generator())
    assert (found - original).abs().max() <= 0.3 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
