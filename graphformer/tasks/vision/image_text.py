"""Images and texts by contrast: each is nearer to its own than to all others of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from typing_extensions import Unpack

from graphformer.models.vision.clip import (
    CLIP,
    MAX_LOG_SCALE,
    caption_batch,
    image_batch,
    slice_batch,
)
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates, require_tokenizer
from graphformer.tasks.metrics import Mean

if TYPE_CHECKING:
    from torch_geometric.data import Data


class ImageTextContrast(Task):
    """CLIP's symmetric cross-entropy, with recall at 1, 5 and 10 of retrieval both ways.

    Recall is over a whole part: of 1,000 texts, how many have their own image among the nearest;
    an image that comes several times, or with a sentence that does, is right each time. Where the
    data has `zero_shot_set`, as `Scenes`, the test also classifies these without training
    (zero-shot), by the nearest mean of what may be said of each class.

    With `micro_batch_size`, images and texts go through the towers in parts that keep no more
    than their vectors, and once more for the gradient, which is exactly that of the whole batch:
    the memory of a small batch with the negatives of a large one. `accumulate_grad_batches` could
    not do that, for its batches never meet, and is refused.

    Args:
        network: a `CLIP`.
        adjacency: who attends to whom in a text.
        micro_batch_size: pairs that go through the towers at once; all of a batch by default.
        options: those of `Task`.

    Source: Radford et al., 2021, figure 3; Gao et al., 2021 (GradCache).
    """

    network: CLIP

    @checked_options
    def __init__(
        self,
        network: CLIP,
        adjacency: Pattern = Causal(),
        *,
        micro_batch_size: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {micro_batch_size}: expected 1 or more.")
        self.micro_batch_size = micro_batch_size
        self.add_metrics({"loss": Mean()})
        self._vectors: list[tuple[Tensor, Tensor]] = []
        self._told: list[tuple[list[int], list[int]]] = []

    def on_fit_start(self) -> None:
        """Refuse to accumulate gradients of batches that do not see one another."""
        if self.trainer.accumulate_grad_batches > 1:
            raise ValueError(
                "accumulate_grad_batches would contrast each batch within itself alone: set a "
                "larger data.batch_size, and model.micro_batch_size to what memory allows."
            )

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the pairs, []."""
        image, text = self.vectors(batch)
        total = contrast(image, text, self.network.scale)
        return self.training_loss(total, torch.tensor(len(image)), rows=len(image))

    def on_train_batch_end(self, outputs: Any, batch: Data, batch_idx: int) -> None:
        """Keep the scale where it has a gradient: beyond its limit it could never come back."""
        self.network.log_scale.data.clamp_(max=MAX_LOG_SCALE)

    def on_validation_epoch_end(self) -> None:
        """Tell the recall over the validation split."""
        self._tell("val")

    def on_test_epoch_end(self) -> None:
        """Tell the recall over the test split, and the zero-shot accuracy."""
        self._tell("test")
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "zero_shot_set"):
            images, said = data.zero_shot_set()
            self.log("test/zero_shot", self.zero_shot(images, said))

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """The vectors of images and texts side by side, [B, 2 C]."""
        return torch.cat(self.vectors(batch), dim=1)

    def vectors(self, batch: Data) -> tuple[Tensor, Tensor]:
        """The vectors of a batch's images and of its texts, [B, C] each."""

        def read(texts: Any) -> Tensor:
            return self.network.encode_text(texts, self.adjacency(texts))

        image = self._in_parts(self.network.encode_image, image_batch(batch))
        return image, self._in_parts(read, caption_batch(batch))

    @torch.no_grad()
    def zero_shot(self, images: Any, said: list[list[str]]) -> float:
        """The share of images that are nearest to what is said of their class.

        Args:
            images: `images[index]` gives a batch of patches with labels `y`.
            said: sentences about each class, whose mean stands for it.
        """
        classes = self.class_vectors(said)
        right = 0
        for numbers in torch.arange(len(images)).split(128):
            batch = images[numbers].to(self.device)
            near = self.network.zero_shot(batch, classes)
            right += int((near.argmax(1) == batch.y).sum())
        return right / len(images)

    def class_vectors(self, said: list[list[str]]) -> Tensor:
        """The mean vector of what is said of each class, [classes, C], in the data's vocabulary."""
        tokenizer = require_tokenizer(self)
        end = tokenizer.need("eos")
        ids = [[[*tokenizer.encode(text).tolist(), end] for text in own] for own in said]
        return self.network.class_vectors(ids, self.adjacency)

    def _in_parts(self, encode: Callable[[Any], Tensor], batch: Any) -> Tensor:
        size, count = self.micro_batch_size, len(lengths(batch))
        if size is None or size >= count or not torch.is_grad_enabled():
            return encode(batch)
        parts = [slice_batch(batch, i, min(i + size, count)) for i in range(0, count, size)]
        return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sum of the loss over pairs; the vectors are stored for the recall of the whole split."""
        image, text = self.vectors(batch)
        total = contrast(image, text, self.network.scale)
        self._vectors.append((image, text))
        self._told.append((sample_hashes(image_batch(batch)), sample_hashes(caption_batch(batch))))
        return {"loss": (total, torch.tensor(len(image)))}, len(image)

    def _tell(self, stage: str) -> None:
        image, text = (torch.cat(side) for side in zip(*self._vectors, strict=True))
        told = (list(chain(*side)) for side in zip(*self._told, strict=True))
        right = matching_pairs(*told).to(image.device)
        self._vectors.clear()
        self._told.clear()
        for name, near in (("image", text @ image.T), ("text", image @ text.T)):
            for k in (1, 5, 10):
                self.log(f"{stage}/{name}_recall@{k}", recall(near, k, right), prog_bar=k == 1)


def contrast(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The sum over pairs of the symmetric cross-entropy, [].

    Args:
        image, text: vectors of length one, [B, C] each.
        scale: what similarities are multiplied by, [].
    """
    near = scale * image @ text.T
    own = torch.arange(len(image), device=image.device)
    both = (
        F.cross_entropy(near, own, reduction="sum"),
        F.cross_entropy(near.T, own, reduction="sum"),
    )
    return (both[0] + both[1]) / 2


def recall(near: Tensor, k: int, right: Tensor | None = None) -> Tensor:
    """The share of rows [n, m] in whose k highest numbers a right one is, [].

    What is wrong but as high counts as higher, so that vectors that are all alike, or no numbers,
    find nothing.

    Args:
        near: similarities.
        k: how many are looked at.
        right: bool [n, m]; the diagonal by default.
    """
    if right is None:
        right = torch.eye(*near.shape, dtype=torch.bool, device=near.device)
    best = near.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    return ((~right & ~(near < best)).sum(1) < k).float().mean()


def sample_hashes(batch: Any) -> list[int]:
    """A number for each image or text of a batch that only its like has, [B]."""
    parts = batch.x.detach().cpu().double().split(list(lengths(batch)))
    return [hash(part.numpy().tobytes()) for part in parts]


def matching_pairs(images: Sequence[int], texts: Sequence[int]) -> Tensor:
    """Which pairs have the same image or the same text as which others, bool [n, n]."""
    alike = [torch.tensor(side)[:, None] == torch.tensor(side) for side in (images, texts)]
    return alike[0] | alike[1]
