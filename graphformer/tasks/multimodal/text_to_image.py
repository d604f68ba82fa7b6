"""`TextToImage`: the codes of an image after its caption, as in DALL-E's second stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, Batch, BatchLike
from graphformer.data.batch import source_batch
from graphformer.data.multimodal.image_codes import append_codes
from graphformer.models import TextToImageModel, VQAutoencoder
from graphformer.models.generation import eval_mode
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.warm_start import load_pretrained


class TextToImage(Task):
    """Cross-entropy of each code of an image, given its caption and the codes before.

    A batch has captions x [M] and their images as source, as `data.Scenes` and `data.CaptionFile`
    make them. A frozen autoencoder, which checkpoints contain, encodes the images. Metrics are the
    loss in nats a code, and the perplexity of the codes.

    Args:
        network: an `TextToImageModel`, such as `models.dalle`.
        adjacency: pattern of the edges of attention among tokens and codes, without edges to later
            codes.
        autoencoder: a `VQAutoencoder` of the sizes of the trained one.
        autoencoder_weights: its weights: a checkpoint, or the folder of a run of
            `VectorQuantization`.
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
        super().__init__(network, adjacency, **options)
        for name, module, kind in (
            ("network", network, TextToImageModel),
            ("autoencoder", autoencoder, VQAutoencoder),
        ):
            if not isinstance(module, kind):
                raise ValueError(f"{name}: got {type(module).__name__}, expected {kind.__name__}")
        assert isinstance(network, TextToImageModel)
        assert isinstance(autoencoder, VQAutoencoder)
        if network.num_codes != autoencoder.num_codes:
            raise ValueError(
                f"num_codes: got {network.num_codes} in the network and {autoencoder.num_codes} in "
                "the autoencoder, expected the same number"
            )
        self.autoencoder = autoencoder.requires_grad_(False)
        self.autoencoder_weights = autoencoder_weights
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity()})

    def setup(self, stage: str) -> None:
        """Load the weights of the autoencoder, before those of a checkpoint to resume from.

        Raises:
            ValueError: when training begins without them.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.autoencoder_weights is None:
            raise ValueError(
                "autoencoder_weights: got None, expected a run of VectorQuantization; set "
                "--model.autoencoder_weights RUN"
            )
        load_pretrained(self.autoencoder, self.autoencoder_weights)

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
        shapes = {(rows, columns) for rows, columns in batch.source_shapes}
        if len(shapes) != 1:
            raise ValueError(f"batch: got images of {sorted(shapes)} patches, expected one size")
        return self._model.sample_codes(
            _captions(batch), shapes.pop(), self.adjacency, temperature=temperature, seed=seed
        )

    def images(self, codes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the patches of codes [B, rows * columns], normalised as the images: [N, F]."""
        with eval_mode(self.autoencoder), torch.no_grad():
            return self.autoencoder.decode(codes.flatten(), (shape,) * len(codes))

    def sequence(self, batch: BatchLike) -> Batch:
        """Return the captions with the codes of their images, as `data.append_codes` makes it."""
        images = source_batch(batch)
        with eval_mode(self.autoencoder), torch.no_grad():
            codes = self.autoencoder.encode(images)
        return append_codes(
            _captions(batch), codes, images.shapes, vocab_size=self._model.vocab_size
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


def _captions(batch: BatchLike) -> Batch:
    return Batch(x=batch.x, lengths=lengths(batch))
