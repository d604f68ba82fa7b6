"""Estimators of the divergence: values and gradients of two tokens, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from graphformer.tasks.post_training.kl import adapt_kl_weight, estimate_kl

REFERENCE = torch.tensor([0.9, 0.1], dtype=torch.float64)


def expected(logit: torch.Tensor, estimator: str) -> torch.Tensor:
    """Mean over both tokens, with the weights that sampling would give."""
    log_p = torch.stack([logit, torch.zeros_like(logit)]).log_softmax(0)
    weights = log_p.exp().detach()
    return (weights * estimate_kl(log_p, REFERENCE.log(), estimator)).sum()


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [("k1", 0.5108, 0.0), ("k2", 0.7339, -0.5493), ("k3", 0.5108, -0.4)],
)
def test_values_and_gradients(estimator: str, value: float, gradient: float) -> None:
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    estimate = expected(logit, estimator)
    estimate.backward()
    assert estimate.item() == pytest.approx(value, abs=5e-5)
    assert logit.grad.item() == pytest.approx(gradient, abs=5e-5)


def test_the_gradient_of_k2_is_that_of_the_divergence() -> None:
    logit = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    p = torch.stack([logit, torch.zeros_like(logit)]).softmax(0)
    (true,) = torch.autograd.grad((p * (p / REFERENCE).log()).sum(), logit)
    (found,) = torch.autograd.grad(expected(logit, "k2"), logit)
    torch.testing.assert_close(found, true)


def test_unknown_estimator() -> None:
    with pytest.raises(ValueError, match="estimator: got 'k4'"):
        estimate_kl(torch.zeros(1), torch.zeros(1), "k4")  # type: ignore[arg-type]


def test_the_weight_follows_the_target() -> None:
    assert adapt_kl_weight(0.5, 6.0, target=6.0, horizon=7) == 0.5
    assert adapt_kl_weight(0.5, 6.6, target=6.0, horizon=2) == pytest.approx(0.5 * 1.05)
    assert adapt_kl_weight(0.5, 1e9, target=6.0, horizon=2) == pytest.approx(0.5 * 1.1)
    assert adapt_kl_weight(0.5, 0.0, target=6.0, horizon=2) == pytest.approx(0.5 * 0.9)
    assert math.isfinite(adapt_kl_weight(0.5, -3.0, target=6.0, horizon=2))
