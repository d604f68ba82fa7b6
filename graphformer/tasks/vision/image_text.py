"""Contrast of images and texts (CLIP), with the recall of retrieval and zero-shot accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from typing_extensions import Unpack

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.batch import slice_batch, source_batch
from graphformer.data.loader import is_padding
from graphformer.deprecated import renamed_function, renamed_keywords
from graphformer.distributed import data_parallel
from graphformer.models.vision.clip import CLIP, MAX_LOG_SCALE, caption_batch
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions

RECALL_AT = (1, 5, 10)


class LabelledBatches(Protocol):
    """Images that an index tensor [B] selects as a batch of patches with labels `y` [B]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Batch: ...


class ImageTextContrast(Task):
    """CLIP's symmetric cross-entropy, with recall at 1, 5 and 10 of retrieval in both directions.

    The pairs of a batch are contrasted with those of all ranks. Recall is computed over a whole
    split: the share of texts with one of their images among the k nearest, and of images with one
    of their texts. An image and a text belong together if any pair of the split joins them. If the
    data has a `zero_shot_set`, as `Scenes`, the test also classifies it without training, by the
    nearest mean embedding of the prompts of each class.

    With `micro_batch_size`, the encoders run over slices of a batch, of which only the embeddings
    are stored, and run again for the gradient. The gradient is that of the whole batch, with the
    memory of a small one. `accumulate_grad_batches` contrasts each batch within itself, and
    is refused.

    Args:
        network: a `CLIP`.
        adjacency: pattern among the tokens of a text.
        micro_batch_size: pairs that run through the encoders at once; by default a whole batch.
        options: those of `Task`.

    Raises:
        ValueError: when micro_batch_size is below 1.

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
            raise ValueError(f"micro_batch_size: got {micro_batch_size}, expected 1 or more")
        self.micro_batch_size = micro_batch_size
        self.add_metrics({"loss": Mean()})
        self._embeddings: list[tuple[Tensor, Tensor]] = []
        self._hashes: list[tuple[list[int], list[int]]] = []

    def on_fit_start(self) -> None:
        """Check that gradients are not accumulated over batches.

        Raises:
            ValueError: when they are.
        """
        accumulated = self.trainer.accumulate_grad_batches
        if accumulated > 1:
            raise ValueError(
                f"accumulate_grad_batches: got {accumulated}, expected 1, as each batch is "
                "contrasted within itself; set a larger data.batch_size, and "
                "model.micro_batch_size to what memory allows"
            )

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the pairs, []."""
        image, text = self._counted_vectors(batch)
        total = self._contrast(image, text)
        return self.training_loss(total, torch.tensor(len(image)), rows=len(image))

    def _contrast(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the loss of this rank's pairs, summed; their negatives are those of all ranks."""
        ranks = data_parallel(self)
        first = ranks.count_before(len(image))
        own = slice(first, first + len(image))
        image, text = ranks.gather_rows(image), ranks.gather_rows(text)
        return contrast(image, text, self.network.scale, own)

    def on_train_batch_end(self, outputs: Any, batch: BatchLike, batch_idx: int) -> None:
        """Clamp the learned scale: above its maximum its gradient is zero."""
        self.network.log_scale.data.clamp_(max=MAX_LOG_SCALE)

    def on_validation_epoch_end(self) -> None:
        """Log the recall over the validation split."""
        self._log_recall("val")

    def on_test_epoch_end(self) -> None:
        """Log the recall over the test split, and the zero-shot accuracy."""
        self._log_recall("test")
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "zero_shot_set"):
            self.log("test/zero_shot", self.zero_shot(*data.zero_shot_set()))

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the embeddings of images and of texts, concatenated, [B, 2 C]."""
        return torch.cat(self.vectors(batch), dim=1)

    def vectors(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the embeddings of a batch's images and of its texts, [B, C] each."""

        def encode_text(texts: Batch) -> Tensor:
            return self.network.encode_text(texts, self.adjacency(texts))

        image = self._encode(self.network.encode_image, source_batch(batch))
        return image, self._encode(encode_text, caption_batch(batch))

    def _counted_vectors(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the same, without a row if the batch is padding."""
        image, text = self.vectors(batch)
        return (image[:0], text[:0]) if is_padding(batch) else (image, text)

    @torch.no_grad()
    @renamed_keywords(said="prompts")
    def zero_shot(self, images: LabelledBatches, prompts: list[list[str]]) -> float:
        """Return the share of images whose nearest class embedding is that of their class.

        Args:
            images: labelled by class.
            prompts: texts that describe each class.
        """
        classes = self.class_vectors(prompts)
        correct = 0
        for index in torch.arange(len(images)).split(128):
            batch = images[index].to(self.device)
            probabilities = self.network.zero_shot(batch, classes)
            correct += int((probabilities.argmax(1) == batch.y).sum())
        return correct / len(images)

    @renamed_keywords(said="prompts")
    def class_vectors(self, prompts: list[list[str]]) -> Tensor:
        """Return the mean embedding of the prompts of each class, [K, C].

        The texts are encoded by the tokenizer of the data.
        """
        tokenizer = require_tokenizer(self)
        end = tokenizer.need("eos")
        ids = [[[*tokenizer.encode(text).tolist(), end] for text in texts] for texts in prompts]
        return self.network.class_vectors(ids, self.adjacency)

    def _encode(self, encode: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Embeddings [B, C], by micro-batches if gradients are needed."""
        size, count = self.micro_batch_size, len(lengths(batch))
        if size is None or size >= count or not torch.is_grad_enabled():
            return encode(batch)
        slices = [slice_batch(batch, i, min(i + size, count)) for i in range(0, count, size)]
        return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in slices])

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the loss summed over pairs; store the embeddings for the recall of the split."""
        image, text = self._counted_vectors(batch)
        total = self._contrast(image, text)
        self._embeddings.append((image, text))
        images, texts = source_batch(batch), caption_batch(batch)
        hashes = sample_hashes(images)[: len(image)], sample_hashes(texts)[: len(text)]
        self._hashes.append(hashes)
        return {"loss": (total, torch.tensor(len(image)))}, len(image)

    def _log_recall(self, stage: Stage) -> None:
        ranks = data_parallel(self)
        image, text = (
            ranks.gather_rows(torch.cat(side)) for side in zip(*self._embeddings, strict=True)
        )
        hashes = chain.from_iterable(ranks.gather_objects(self._hashes))
        images, texts = (list(chain(*side)) for side in zip(*hashes, strict=True))
        matches = matching_pairs(images, texts).to(image.device)
        self._embeddings.clear()
        self._hashes.clear()
        similarity = text @ image.T
        by_query = {"image": (similarity, matches), "text": (image @ text.T, matches.T)}
        for name, (scores, correct) in by_query.items():
            for k in RECALL_AT:
                self.log(f"{stage}/{name}_recall@{k}", recall(scores, k, correct), prog_bar=k == 1)


def contrast(image: Tensor, text: Tensor, scale: Tensor, pairs: slice = slice(None)) -> Tensor:
    """Return the symmetric cross-entropy, summed over pairs, [].

    Args:
        image, text: embeddings of length one, [B, C] each; row i of both is a pair.
        scale: factor of the similarities, [].
        pairs: the pairs whose losses are summed; the others are negatives only.
    """
    logits = scale * image @ text.T
    target = torch.arange(len(image), device=image.device)[pairs]
    by_image = F.cross_entropy(logits[pairs], target, reduction="sum")
    by_text = F.cross_entropy(logits.T[pairs], target, reduction="sum")
    return (by_image + by_text) / 2


def recall(scores: Tensor, k: int, correct: Tensor | None = None) -> Tensor:
    """Return the share of rows with a correct column among their k highest scores, [].

    A wrong column with the score of the best correct one, or with NaN, counts as higher: equal
    embeddings have no recall.

    Args:
        scores: similarities, [n, m].
        k: number of columns considered.
        correct: bool [n, m]; the diagonal by default.
    """
    if correct is None:
        correct = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    best = scores.masked_fill(~correct, -torch.inf).amax(1, keepdim=True)
    return ((~correct & ~(scores < best)).sum(1) < k).float().mean()


def sample_hashes(batch: BatchLike) -> list[int]:
    """Return a hash of the content of each image or text of a batch, the same in all processes."""
    samples = batch.x.detach().cpu().double().split(list(lengths(batch)))
    digests = (blake2b(sample.numpy().tobytes(), digest_size=8) for sample in samples)
    return [int.from_bytes(digest.digest(), "big", signed=True) for digest in digests]


def matching_pairs(images: Sequence[int], texts: Sequence[int]) -> Tensor:
    """Return which text (row) belongs to which image (column), bool [n, n].

    Args:
        images, texts: an identifier of each pair's image and of its text; equal ones may repeat.
    """
    (_, image), (_, text) = (
        torch.tensor(ids, dtype=torch.int64).unique(return_inverse=True) for ids in (images, texts)
    )
    joined = torch.zeros(int(text.max()) + 1, int(image.max()) + 1, dtype=torch.bool)
    joined[text, image] = True
    return joined[text][:, image]


same = renamed_function("same", matching_pairs)
