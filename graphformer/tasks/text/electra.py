"""`ReplacedTokenDetection`: detection of tokens replaced by a masked language model (ELECTRA)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import BinaryF1Score
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.data.loader import is_padding
from graphformer.distributed import data_parallel
from graphformer.models.generation.sampling import draw_tokens
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.seeding import batch_generators, draw_uniform
from graphformer.tasks.text.masked_language import (
    Masking,
    check_mask_rate,
    logits_at,
    make_masking,
)


class ReplacedTokenDetection(Task):
    """ELECTRA: a generator fills masked tokens, and the network detects which ones it replaced.

    The loss is the generator's mean over masked tokens plus `weight` times the network's mean over
    all tokens; sampling from the generator has no gradient. Of a batch only x [N] and the sizes of
    the samples are used.

    Args:
        network: computes one logit for each node, [N, 1], that its token was replaced; a tagger
            with one class.
        generator: computes logits over the vocabulary, [N, K]; a smaller masked language model.
        adjacency: pattern of the edges of attention.
        weight: of the network's loss.
        mask_rate: share of the tokens to mask.
        seed: of masks and sampled tokens.
        options: those of `Task`.

    Raises:
        ValueError: when the mask rate is not between 0 and 1.

    Source: Clark et al., 2020.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        generator: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        weight: float = 50.0,
        mask_rate: float = 0.15,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        check_mask_rate(mask_rate)
        self.generator = generator
        self.weight, self.mask_rate, self.seed = weight, mask_rate, seed
        self.masking: Masking | None = None
        self.add_metrics(
            {"loss": Mean(), "generator_loss": Mean(), "accuracy": Mean(), "f1": BinaryF1Score()}
        )

    def setup(self, stage: str) -> None:
        """Reset masking, which is made for the tokenizer of the data at the first step."""
        super().setup(stage)
        self.masking = None

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the weighted sum of both mean losses, []."""
        generator_loss, num_masked, network_loss, _ = self._losses(batch, training=True)
        # Each is a mean over its own labels of all ranks; gradient accumulation weights by the
        # network's labels.
        rows = num_masked.new_tensor(len(batch.x))
        is_counted = int(not is_padding(batch))
        all_rows, all_masked = data_parallel(self).sum(rows * is_counted, num_masked * is_counted)
        total = all_rows * generator_loss / all_masked.clamp(min=1) + self.weight * network_loss
        return self.training_loss(total, rows, rows=len(batch.x))

    def _losses(
        self, batch: BatchLike, *, training: bool
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the generator's loss and label count, and the network's loss and outputs.

        Losses are sums over labels, []. The outputs are logits [N] and whether each token is
        replaced, float [N].
        """
        if self.masking is None:
            self.masking = make_masking(self, rate=self.mask_rate, seed=self.seed)
        generators = batch_generators(self, batch, self.seed, training=training)
        masked, y = self.masking(batch, generators)
        adjacency = self.adjacency(batch)
        is_masked = y != IGNORE_INDEX
        predictions = logits_at(self.generator, masked, adjacency, is_masked)
        generator_loss = F.cross_entropy(predictions, y[is_masked], reduction="sum")
        filled = batch.clone()
        counts = tuple(int(part.sum()) for part in is_masked.split(list(lengths(batch))))
        sampled = _sample(predictions, draw_uniform(generators, counts))
        filled.x = batch.x.masked_scatter(is_masked, sampled)
        logits = at_least_float32(self.network(filled, adjacency)).squeeze(-1)
        # A sampled token that equals the original one does not count as replaced.
        replaced = (filled.x != batch.x).to(logits.dtype)
        network_loss = F.binary_cross_entropy_with_logits(logits, replaced, reduction="sum")
        return generator_loss, is_masked.sum(), network_loss, (logits, replaced)

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of both losses and of correct detections, and probabilities for F1."""
        generator_loss, num_masked, network_loss, (logits, replaced) = self._losses(
            batch, training=False
        )
        rows = num_masked.new_tensor(len(batch.x))
        correct = ((logits > 0) == (replaced > 0)).sum()
        updates = {
            "loss": (network_loss, rows),
            "generator_loss": (generator_loss, num_masked),
            "accuracy": (correct, rows),
            "f1": (logits.sigmoid(), replaced.long()),
        }
        return updates, len(batch.x)


@torch.no_grad()
def _sample(logits: Tensor, uniform: np.ndarray) -> Tensor:
    """Return a token for each row of logits [n, K] by inverse transform of uniform numbers, [n]."""
    return draw_tokens(logits.softmax(-1), torch.from_numpy(uniform))
