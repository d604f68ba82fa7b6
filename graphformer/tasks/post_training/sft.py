"""`SupervisedFineTuning`: instruction tuning on the answer tokens of conversations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.metrics import Mean, Perplexity
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.post_training.log_probs import answer_logits
from graphformer.tasks.text.language import BALANCE, balanced


class SupervisedFineTuning(Task):
    """The mean of -log P(answer token | all tokens before) over all answer tokens of a step.

    `batch.y` [N] is the token after each node where an answer contains it, else -100, as `ChatFile`
    makes it. Metrics are the loss, perplexity, and the share of answer tokens that are the
    likeliest ones.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention; causal.
        balance: weight of the load-balancing loss of a network with experts.
        options: those of `Task`.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        balance: float = BALANCE,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.balance = balance
        self.add_metrics({"loss": Mean(), "perplexity": Perplexity(), "accuracy": Mean()})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the answer tokens, []."""
        losses, _ = self._losses(batch)
        count = torch.tensor(len(losses), device=losses.device)
        total = balanced(losses.sum(), count, self.network, self.balance, self)
        return self.training_loss(total, count, rows=len(losses))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return sums over the answer tokens and their number."""
        losses, correct = self._losses(batch)
        count = torch.tensor(len(losses), device=losses.device)
        loss = (losses.sum(), count)
        updates = {"loss": loss, "perplexity": loss, "accuracy": (correct.sum(), count)}
        return updates, len(losses)

    def _losses(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the loss of each answer token, and whether it is the likeliest, both [T].

        Raises:
            ValueError: when the batch has no answer token, whose mean loss would be NaN.
        """
        labels = batch.y[batch.y != IGNORE_INDEX]
        if not len(labels):
            raise ValueError(
                "batch.y: got no label, expected answer tokens in every batch; raise max_length, "
                "or remove conversations without answers"
            )
        logits = answer_logits(self(batch), batch.y)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses, logits.argmax(-1) == labels
