"""`LatentDiffusion`: images from captions by removing noise from latents."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.data.multimodal.latents import drop_captions, pack_latents
from graphformer.models import LatentDiffusionModel
from graphformer.models.generation import eval_mode
from graphformer.models.multimodal.diffusion_process import add_noise, velocity
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.multimodal.image_generation import (
    ImageGeneration,
    captions_of,
    check_kind,
    common_shape,
    images_of,
)
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import batch_generators


class LatentDiffusion(ImageGeneration):
    """Mean squared error of the velocity of noisy latents, given their time and caption.

    Batches and autoencoder are those of `ImageGeneration`. The latents are the autoencoder's
    vectors before their codes are chosen, times the root of their width: as these have length one,
    the mean square of a latent's numbers is one, that of the noise. Time and noise of an image are
    drawn from (seed, step, image) in training, and are fixed in validation and test, where all
    captions are used. The metric is the loss.

    Args:
        network: a `LatentDiffusionModel`, such as `models.latent_diffusion`.
        adjacency: pattern among the cells of an image.
        autoencoder, autoencoder_weights: those of `ImageGeneration`.
        caption_dropout: share of the captions that training leaves out, for guidance.
        steps, guidance: of `LatentDiffusionModel.sample_latents`, for `predict` and
            `sample_images`; guidance needs a caption_dropout above 0.
        seed: of times, noise and dropped captions.
        options: those of `Task`.

    Raises:
        ValueError: when the network or the autoencoder is of another kind, the widths of latents
            and codes differ, or caption_dropout or steps is out of range.

    Source: Rombach et al., 2022, "High-resolution image synthesis with latent diffusion models",
    section 3; velocity: Salimans and Ho, 2022, section 4; dropped captions: Ho and Salimans, 2022.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        autoencoder: nn.Module,
        autoencoder_weights: str | None = None,
        caption_dropout: float = 0.1,
        steps: int = 50,
        guidance: float = 3.0,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(
            network,
            adjacency,
            autoencoder=autoencoder,
            autoencoder_weights=autoencoder_weights,
            **options,
        )
        model = check_kind("network", network, LatentDiffusionModel)
        if model.latent_dim != self.autoencoder.code_dim:
            raise ValueError(
                f"latent_dim: got {model.latent_dim} in the network and a code_dim of "
                f"{self.autoencoder.code_dim} in the autoencoder, expected the same width"
            )
        if not 0 <= caption_dropout <= 1:
            raise ValueError(f"caption_dropout: got {caption_dropout}, expected from 0 to 1")
        if steps < 1:
            raise ValueError(f"steps: got {steps}, expected 1 or more")
        self.caption_dropout, self.seed = caption_dropout, seed
        self.steps, self.guidance = steps, guidance
        self.add_metrics({"loss": Mean()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the cells of a batch, []."""
        total, count = self._loss(batch, training=True)
        return self.training_loss(total, count, rows=len(lengths(batch)))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the squared error summed over cells, and their number."""
        return {"loss": self._loss(batch, training=False)}, len(lengths(batch))

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the patches of an image for each caption, [B, rows * columns * F].

        Raises:
            ValueError: when the images of the batch have different sizes.
        """
        common_shape(batch)  # a row of the result is an image
        patches = self.sample_images(batch, seed=batch_idx)
        return patches.reshape(len(lengths(batch)), -1)

    def sample_images(
        self,
        batch: BatchLike,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Return the patches of an image for each caption, normalised as the images, [N, F].

        Args:
            batch: captions x; the images of its source give the numbers of rows and columns, which
                may differ.
            seed: of the noise.
            steps, guidance: of `LatentDiffusionModel.sample_latents`; those of the task by default.
        """
        shapes = tuple(batch.source_shapes)
        latents = self._model.sample_latents(
            captions_of(batch),
            shapes,
            self.adjacency,
            steps=self.steps if steps is None else steps,
            guidance=self.guidance if guidance is None else guidance,
            seed=seed,
        )
        with eval_mode(self.autoencoder), torch.no_grad():
            return self.autoencoder.decode_latents(latents, shapes)

    def latents(self, images: BatchLike) -> Tensor:
        """Return the latents of images, [N, D]; the mean of their squares is one."""
        with eval_mode(self.autoencoder), torch.no_grad():
            return math.sqrt(self._model.latent_dim) * self.autoencoder.latents(images)

    @property
    def _model(self) -> LatentDiffusionModel:
        assert isinstance(self.network, LatentDiffusionModel)
        return self.network

    def _loss(self, batch: BatchLike, *, training: bool) -> tuple[Tensor, Tensor]:
        """Return the sum of the squared errors, and the number of cells."""
        images = images_of(batch)
        x = self.latents(images)
        times, noise, is_dropped = self._draw(images, x, training=training)
        of_cells = times.repeat_interleave(torch.tensor(images.lengths, device=x.device))
        noisy = pack_latents(add_noise(x, noise, of_cells), images.shapes, captions_of(batch))
        if training:
            noisy = drop_captions(noisy, is_dropped)
        v = at_least_float32(self._model(noisy, self.adjacency(noisy), times))
        error = (v - velocity(x, noise, of_cells)).square().mean(1)
        return error.sum(), torch.tensor(len(error), device=x.device)

    def _draw(
        self, images: BatchLike, x: Tensor, *, training: bool
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """Return times [B], noise [N, D] and which captions are dropped, drawn image by image."""
        generators = batch_generators(self, images, self.seed, training=training)
        uniform = np.stack([generator.random(2) for generator in generators])
        noise = np.concatenate(
            [
                generator.standard_normal((size, x.shape[1]))
                for generator, size in zip(generators, lengths(images), strict=True)
            ]
        )
        is_dropped = (uniform[:, 1] < self.caption_dropout).tolist()
        return torch.from_numpy(uniform[:, 0]).to(x), torch.from_numpy(noise).to(x), is_dropped
