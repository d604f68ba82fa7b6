"""Private gradients: clipped by sample, with noise of the right size, and opacus' epsilon."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphformer import models
from graphformer.data import Digits
from graphformer.patterns import Complete
from graphformer.tasks import Classification
from graphformer.tasks.differential_privacy import DifferentialPrivacy, clipped_gradients


def test_gradients_are_those_of_single_samples_clipped() -> None:
    torch.manual_seed(0)
    linear, x, y = nn.Linear(3, 5), torch.randn(7, 3), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    x[0] *= 100  # a gradient that is clipped
    parameters = list(linear.parameters())
    losses = F.cross_entropy(linear(x), y, reduction="none")
    got = clipped_gradients(losses, parameters, 1.5)
    expected = [torch.zeros_like(p) for p in parameters]
    clipped = 0
    for row, label in zip(x, y, strict=True):
        own = torch.autograd.grad(F.cross_entropy(linear(row), label), parameters)
        norm = float(torch.cat([g.flatten() for g in own]).norm())
        clipped += norm > 1.5
        for total, gradient in zip(expected, own, strict=True):
            total += gradient * min(1.0, 1.5 / norm)
    assert 0 < clipped < 7
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


class PlainDescent(Classification):
    """Steps along the gradients themselves."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=1.0)


def make_task() -> Classification:
    torch.manual_seed(0)
    network = models.vit(10, 8, 1, 2, channels=1, patch_size=4)
    return PlainDescent(network, Complete(), num_classes=10)


def fit(task: Classification, private: DifferentialPrivacy | None, steps: int) -> pl.Trainer:
    data = Digits(patch_size=4, batch_size=13)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=private, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return trainer


def test_without_noise_and_clipping_training_is_the_usual() -> None:
    plain, private = make_task(), make_task()
    fit(plain, None, 3)
    fit(private, DifferentialPrivacy(1e9, 0.0), 3)
    for a, b in zip(plain.parameters(), private.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Optimal order")  # of opacus, for so much noise
def test_noise_has_the_given_deviation_and_seed() -> None:
    pytest.importorskip("opacus", reason='needs the extra "trust"')
    task, again = make_task(), make_task()
    before = torch.cat([p.detach().flatten().clone() for p in task.parameters()])
    fit(task, DifferentialPrivacy(1e-3, 500.0, seed=7), 1)
    fit(again, DifferentialPrivacy(1e-3, 500.0, seed=7), 1)
    after = torch.cat([p.detach().flatten() for p in task.parameters()])
    assert torch.equal(after, torch.cat([p.detach().flatten() for p in again.parameters()]))
    assert float((after - before).std()) == pytest.approx(0.5 / 13, rel=0.1)


def test_epsilon_is_that_of_opacus() -> None:
    accountants = pytest.importorskip("opacus.accountants", reason='needs the extra "trust"')
    private = DifferentialPrivacy(1.0, 1.1, delta=1e-4, seed=0)
    trainer = fit(make_task(), private, 5)
    accountant = accountants.RDPAccountant()
    for _ in range(5):
        rate = 13 / len(trainer.train_dataloader.dataset)
        accountant.step(noise_multiplier=1.1, sample_rate=rate)
    assert private.epsilon() == pytest.approx(accountant.get_epsilon(delta=1e-4))
    assert DifferentialPrivacy(noise_multiplier=0.0).epsilon() == float("inf")


def test_what_cannot_be_private_is_refused() -> None:
    with pytest.raises(ValueError, match="max_norm, noise_multiplier and delta: got 0, 1.0"):
        DifferentialPrivacy(0)
    task = make_task()
    task.network.append = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="without batch normalisation"):
        fit(task, DifferentialPrivacy(), 1)
