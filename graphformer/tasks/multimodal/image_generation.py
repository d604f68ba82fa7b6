"""`ImageGeneration`: the base of tasks that make images from captions through an autoencoder."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.batch import source_batch
from graphformer.models import VQAutoencoder
from graphformer.models.generation import eval_mode
from graphformer.options import checked_options
from graphformer.patterns import Pattern, lengths
from graphformer.tasks.base import Task
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.warm_start import load_pretrained

M = TypeVar("M", bound=nn.Module)


class ImageGeneration(Task):
    """A network that makes images from captions, as codes or latents of a frozen autoencoder.

    A batch has captions x [M] and their images as source, as `data.Scenes` and `data.CaptionFile`
    make them. Checkpoints contain the autoencoder. A subclass defines `sample_images`.

    Args:
        network: makes codes or latents.
        adjacency: pattern of the edges of attention.
        autoencoder: a `VQAutoencoder` of the sizes of the trained one.
        autoencoder_weights: its weights: a checkpoint, or the folder of a run of
            `VectorQuantization`.
        options: those of `Task`.

    Raises:
        ValueError: when the autoencoder is of another kind.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern,
        *,
        autoencoder: nn.Module,
        autoencoder_weights: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.autoencoder = check_kind("autoencoder", autoencoder, VQAutoencoder)
        self.autoencoder.requires_grad_(False)
        self.autoencoder_weights = autoencoder_weights

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
        argument = "autoencoder_weights"
        load_pretrained(self.autoencoder, self.autoencoder_weights, argument=argument)

    def sample_images(self, batch: BatchLike, *, seed: int = 0) -> Tensor:
        """Return the patches of an image for each caption, normalised as the images, [N, F].

        Args:
            batch: captions x; the images of its source give the numbers of rows and columns.
            seed: of the random numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} must define sample_images()")

    def reconstruct_images(self, batch: BatchLike) -> Tensor:
        """Return the patches of the images of a batch after the autoencoder, [N, F]."""
        with eval_mode(self.autoencoder), torch.no_grad():
            patches: Tensor = self.autoencoder(images_of(batch)).patches
        return patches


def check_kind(name: str, module: nn.Module, kind: type[M]) -> M:
    """Return a module.

    Args:
        name: of the argument, for the message.
        module: the module.
        kind: the expected class.

    Raises:
        ValueError: when it is of another class.
    """
    if not isinstance(module, kind):
        raise ValueError(f"{name}: got {type(module).__name__}, expected {kind.__name__}")
    return module


def images_of(batch: BatchLike) -> Batch:
    """Return the images of a batch without their captions.

    Raises:
        ValueError: when its source is absent or is no patches.
    """
    source = getattr(batch, "source", None)
    if not isinstance(source, Tensor) or not source.is_floating_point():
        given = source.dtype if isinstance(source, Tensor) else source
        raise ValueError(
            f"batch.source: got {given}, expected patches [N, F] of floating point; choose data of "
            "images with captions, such as Scenes"
        )
    return source_batch(batch)


def captions_of(batch: BatchLike) -> Batch:
    """Return the captions of a batch without their images."""
    return Batch(x=batch.x, lengths=lengths(batch))


def common_shape(batch: BatchLike) -> tuple[int, int]:
    """Return the rows and columns of the images of a batch.

    Raises:
        ValueError: when they differ.
    """
    shapes = {(rows, columns) for rows, columns in batch.source_shapes}
    if len(shapes) != 1:
        raise ValueError(f"batch: got images of {sorted(shapes)} patches, expected one size")
    return shapes.pop()
