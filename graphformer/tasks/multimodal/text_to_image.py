"""`TextToImage`: the codes of an image after its caption, as in DALL-E's second stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.data.multimodal.image_codes import append_codes
from graphformer.models import TextToImageModel
from graphformer.models.generation import eval_mode
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.multimodal.image_generation import (
    ImageGeneration,
    captions_of,
    check_kind,
    common_shape,
    images_of,
)
from graphformer.tasks.options import TaskOptions


class TextToImage(ImageGeneration):
    """Cross-entropy of each code of an image, given its caption and the codes before.

    Batches and autoencoder are those of `ImageGeneration`. Metrics are the loss in nats a code, and
    the perplexity of the codes.

    Args:
        network: a `TextToImageModel`, such as `models.dalle`.
        adjacency: pattern of the edges of attention among tokens and codes, without edges to later
            codes.
        autoencoder, autoencoder_weights: those of `ImageGeneration`.
        options: those of `Task`.

    Raises:
        ValueError: when the network or the autoencoder is of another kind, or the numbers of their
            codes differ.

    Source: Ramesh et al., 2021, "Zero-shot text-to-image generation", section 2.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        autoencoder: nn.Module,
        autoencoder_weights: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(
            network,
            adjacency,
            autoencoder=autoencoder,
            autoencoder_weights=autoencoder_weights,
            **options,
        )
        model = check_kind("network", network, TextToImageModel)
        if model.num_codes != self.autoencoder.num_codes:
            raise ValueError(
                f"num_codes: got {model.num_codes} in the network and {self.autoencoder.num_codes} "
                "in the autoencoder, expected the same number"
            )
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the codes of a batch, []."""
        total, count = self._loss(batch)
        return self.training_loss(total, count, rows=len(lengths(batch)))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sum of the losses and the number of codes."""
        total, count = self._loss(batch)
        return {"loss": (total, count), "perplexity": (total, count)}, len(lengths(batch))

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the codes that the network draws for each caption, int64 [B, rows * columns].

        Raises:
            ValueError: when the images of the batch have different sizes.
        """
        return self.sample_codes(batch, seed=batch_idx)

    def sample_codes(self, batch: BatchLike, *, temperature: float = 1.0, seed: int = 0) -> Tensor:
        """Return the codes of an image for each caption, int64 [B, rows * columns].

        Args:
            batch: captions x; the images of its source give the number of rows and columns.
            temperature, seed: of `TextToImageModel.sample_codes`.

        Raises:
            ValueError: when the images of the batch have different sizes.
        """
        shape, captions = common_shape(batch), captions_of(batch)
        return self._model.sample_codes(
            captions, shape, self.adjacency, temperature=temperature, seed=seed
        )

    def sample_images(self, batch: BatchLike, *, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Return the patches of an image for each caption, normalised as the images, [N, F].

        Args:
            batch, seed, temperature: of `sample_codes`.

        Raises:
            ValueError: when the images of the batch have different sizes.
        """
        codes = self.sample_codes(batch, temperature=temperature, seed=seed)
        shapes = (common_shape(batch),) * len(codes)
        with eval_mode(self.autoencoder), torch.no_grad():
            return self.autoencoder.decode(codes.flatten(), shapes)

    def sequence(self, batch: BatchLike) -> Batch:
        """Return the captions with the codes of their images, as `data.append_codes` makes it."""
        images = images_of(batch)
        with eval_mode(self.autoencoder), torch.no_grad():
            codes = self.autoencoder.encode(images)
        return append_codes(
            captions_of(batch), codes, images.shapes, vocab_size=self._model.vocab_size
        )

    @property
    def _model(self) -> TextToImageModel:
        assert isinstance(self.network, TextToImageModel)
        return self.network

    def _loss(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and the number of codes."""
        joint = self.sequence(batch)
        logits = at_least_float32(self(joint))
        total = F.cross_entropy(logits, joint.y, ignore_index=IGNORE_INDEX, reduction="sum")
        return total, (joint.y != IGNORE_INDEX).sum()
