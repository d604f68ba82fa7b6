"""`QuestionAnswering`: answers of one token to questions, with exact match by type of question."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Pattern, Prefix, lengths
from graphformer.patterns.fields import require_tensor
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions


class QuestionAnswering(Task):
    """Cross-entropy of the token that answers a question, read at the question's last token.

    A batch has the answer as the label `y` [N] of the last node of each sample; -100 there marks a
    question without a known answer, and labels of other nodes are not used. Metrics are the loss
    in nats and exact match, the share of questions whose likeliest token is the answer; with
    `question_types` also by type, which the batch numbers in question_type [B].

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention.
        question_types: names of the types, for the metrics `exact_match_NAME`.
        options: those of `Task`.

    Raises:
        ValueError: when a name of a type occurs twice.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Prefix(),
        *,
        question_types: Sequence[str] | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.question_types = tuple(question_types or ())
        if len(set(self.question_types)) < len(self.question_types):
            raise ValueError(
                f"question_types: got {list(self.question_types)}, expected distinct names"
            )
        names = ("loss", "exact_match", *map(_metric_name, self.question_types))
        self.add_metrics({name: Mean() for name in names})

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits of the answer to each question, [B, K]."""
        return self._logits(batch)

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the questions of a batch, []."""
        y = batch.y[_last_nodes(batch)]
        total = _cross_entropy(self._logits(batch), y)
        return self.training_loss(total, (y != IGNORE_INDEX).sum(), rows=len(y))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sum of the losses, and the numbers of correct answers, by type too."""
        logits, y = self._logits(batch), batch.y[_last_nodes(batch)]
        known, correct = y != IGNORE_INDEX, logits.argmax(-1) == y
        updates = {
            "loss": (_cross_entropy(logits, y), known.sum()),
            "exact_match": (correct.sum(), known.sum()),
        }
        if self.question_types:
            types = require_tensor(batch, "question_type", "the metrics by type read it")
            for number, name in enumerate(self.question_types):
                chosen = types == number
                counts = (correct & chosen).sum(), (known & chosen).sum()
                updates[_metric_name(name)] = counts
        return updates, len(y)

    def _logits(self, batch: BatchLike) -> Tensor:
        """Return the logits at the last node of each sample, [B, K]."""
        return at_least_float32(self(batch))[_last_nodes(batch)]


def _metric_name(question_type: str) -> str:
    return f"exact_match_{question_type}"


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, ignore_index=IGNORE_INDEX, reduction="sum")


def _last_nodes(batch: BatchLike) -> Tensor:
    """Return the last node of each sample, int64 [B]."""
    sizes = torch.tensor(lengths(batch), dtype=torch.int64, device=batch.y.device)
    return sizes.cumsum(0) - 1
