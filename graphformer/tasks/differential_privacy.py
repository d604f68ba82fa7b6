"""Training with differential privacy: clipped gradients of single samples, and Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.tasks.classification import Classification


def clipped_gradients(
    losses: Tensor, parameters: Sequence[nn.Parameter], max_norm: float
) -> list[Tensor]:
    """Return the sum over samples of their gradients, each clipped to a norm over all parameters.

    One backward pass per sample: exact for packed batches, which have no dimension of samples.

    Args:
        losses: of the samples, [B]; no sample may influence the loss of another one.
        parameters: of the network.
        max_norm: largest Euclidean norm of a sample's gradient.
    """
    total = [torch.zeros_like(p) for p in parameters]
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        ]
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        factor = (max_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += factor * gradient
    return total


class DifferentialPrivacy(Callback):
    """Replaces the gradients of a classification of whole samples by private ones (DP-SGD).

    They are (sum over samples of clipped gradients + noise) / batch size, with Gaussian noise of
    standard deviation noise_multiplier * max_norm. The (epsilon, delta) guarantee is logged as
    "epsilon" after each epoch, by opacus' accountant of Rényi differential privacy; it assumes that
    each step draws every sample independently, and is approximate for shuffled batches. Metrics
    and early stopping read the data without noise, and are not covered.

    Args:
        max_norm: largest norm of a sample's gradient.
        noise_multiplier: standard deviation of the noise, relative to max_norm.
        delta: probability with which the guarantee may fail; below 1 / number of samples.
        seed: of the noise; None draws an unpredictable one, as the guarantee needs.

    Raises:
        ValueError: when max_norm or delta is not positive, or the noise is negative.

    Source: Abadi et al., 2016, https://arxiv.org/abs/1607.00133.
    """

    def __init__(
        self,
        max_norm: float = 1.0,
        noise_multiplier: float = 1.0,
        delta: float = 1e-5,
        seed: int | None = None,
    ) -> None:
        if max_norm <= 0 or noise_multiplier < 0 or not 0 < delta < 1:
            raise ValueError(
                f"max_norm, noise_multiplier and delta: got {max_norm}, {noise_multiplier} and "
                f"{delta}, expected a positive norm, noise of 0 or more, and delta from 0 to 1"
            )
        self.max_norm, self.noise_multiplier, self.delta = max_norm, noise_multiplier, delta
        self.generator = torch.Generator()
        self.generator.seed() if seed is None else self.generator.manual_seed(seed)
        self.rates: list[float] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse tasks whose samples influence one another.

        Raises:
            ModuleNotFoundError: without opacus.
            ValueError: for another task than a classification of whole samples, for batch
                normalisation, and for accumulated gradients.
        """
        has_batch_norm = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in pl_module.modules()
        )
        is_classification = isinstance(pl_module, Classification) and pl_module.level == "graph"
        if not is_classification or has_batch_norm or trainer.accumulate_grad_batches != 1:
            raise ValueError(
                f"model: got {type(pl_module).__name__}, expected a Classification of whole "
                "samples without batch normalisation and accumulated gradients for "
                "DifferentialPrivacy; choose another model or network"
            )
        self.epsilon()  # a missing opacus is named before the first step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: BatchLike, batch_idx: int
    ) -> None:
        """Keep the batch for the gradients."""
        self.batch = batch

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Replace the gradients."""
        assert isinstance(pl_module, Classification)
        logits, y = pl_module.labelled_outputs(self.batch, "train")
        losses = F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, reduction="none")
        parameters = [p for p in pl_module.network.parameters() if p.requires_grad]
        deviation = self.noise_multiplier * self.max_norm
        summed = clipped_gradients(losses, parameters, self.max_norm)
        for parameter, gradient in zip(parameters, summed, strict=True):
            noise = torch.randn(gradient.shape, generator=self.generator).to(gradient)
            parameter.grad = (gradient + deviation * noise) / len(losses)
        loader: Any = trainer.train_dataloader
        self.rates.append(min(1.0, len(losses) / len(loader.dataset)))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log epsilon after the steps so far."""
        pl_module.log("epsilon", self.epsilon())

    def epsilon(self) -> float:
        """Return epsilon of the guarantee after the steps so far; infinite without noise.

        Raises:
            ModuleNotFoundError: without opacus.
        """
        if not self.noise_multiplier:
            return float("inf")
        try:
            from opacus.accountants import RDPAccountant
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'DifferentialPrivacy needs opacus; pip install "graphformer[trust]"'
            ) from error
        accountant = RDPAccountant()
        for rate in self.rates:
            accountant.step(noise_multiplier=self.noise_multiplier, sample_rate=rate)
        return float(accountant.get_epsilon(delta=self.delta))
