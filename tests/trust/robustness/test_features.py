"""Changes of features: within the radius at each node, and the worst one where it is known."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from graphformer.trust.robustness import attack_features, perturb_features

RADIUS = 0.7


def features():
    return torch.randn(11, 5, generator=torch.Generator().manual_seed(0))


def test_noise_has_the_radius_as_norm():
    x = features()
    noisy = perturb_features(x, radius=RADIUS, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close((noisy - x).norm(dim=1), torch.full((11,), RADIUS))


def test_the_attack_of_a_linear_loss_is_along_the_gradient():
    x, slopes = features(), torch.randn(11, 5, generator=torch.Generator().manual_seed(2))
    slopes[3] = 0  # no gradient: the node stays
    found = attack_features(lambda z: (slopes * z).sum(), x, radius=RADIUS)
    torch.testing.assert_close(found, x + RADIUS * F.normalize(slopes, dim=1))
    assert torch.equal(found[3], x[3])


def test_the_attack_of_a_curved_loss_stays_in_its_balls_and_is_no_weaker_than_no_attack():
    x = features()

    def loss(z):
        return (3 * z).sin().sum()

    found = attack_features(loss, x, radius=RADIUS, steps=7)
    assert ((found - x).norm(dim=1) <= RADIUS * (1 + 1e-6)).all()
    assert loss(found) > loss(x)
    assert torch.equal(attack_features(lambda z: -(z - x).square().sum(), x, radius=RADIUS), x)
    assert torch.equal(attack_features(loss, x, radius=0.0), x)
