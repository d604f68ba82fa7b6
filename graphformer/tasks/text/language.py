"""`LanguageModeling`: prediction of the next token at every node."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.distributed import data_parallel
from graphformer.nn import balance_loss, balance_loss_share
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import BitsPerByte, BitsPerCharacter, Mean, Perplexity
from graphformer.tasks.options import TaskOptions

BALANCE = 0.01
"""Weight of the load-balancing loss, as in Fedus et al., 2022, section 2.2."""


class LanguageModeling(Task):
    """Next-token prediction, the mean of -log P(y_i | x_1 .. x_i) over the labels.

    `batch.y` [N] is the token that follows each node; -100 marks nodes without one. Metrics are the
    loss in nats, perplexity, and bits per character and per byte.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention; causal, so that no node attends to its label.
        characters_per_token: mean length of a token in characters, for bits per character; None:
            measured by the data if it can be, else 1.
        balance: weight of the load-balancing loss of a network with experts.
        options: those of `Task`.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        characters_per_token: float | None = None,
        balance: float = BALANCE,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.characters_per_token, self.balance = characters_per_token, balance
        self.add_metrics(
            {
                "loss": Mean(),
                "perplexity": Perplexity(),
                "bits_per_character": BitsPerCharacter(characters_per_token or 1.0),
                "bits_per_byte": BitsPerByte(),
            }
        )

    def on_validation_start(self) -> None:
        """Set the length of a token in the validation split, for the metrics in bits."""
        self._set_token_lengths("val")

    def on_test_start(self) -> None:
        """Set the length of a token in the test split, for the metrics in bits."""
        self._set_token_lengths("test")

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the labels of a batch, []."""
        total, count = self._loss(batch)
        total = balanced(total, count, self.network, self.balance, self)
        return self.training_loss(total, count, rows=batch.y.shape[0])

    def _loss(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        total = F.cross_entropy(
            at_least_float32(logits), batch.y, ignore_index=IGNORE_INDEX, reduction="sum"
        )
        return total, (batch.y != IGNORE_INDEX).sum()

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return sum and count of the loss for all metrics whose token lengths are known."""
        total, count = self._loss(batch)
        defined = (
            name
            for name, metric in self.metrics_of(stage).items()
            if not isinstance(metric, BitsPerByte) or metric.bytes_per_token is not None
        )
        return dict.fromkeys(defined, (total, count)), batch.y.shape[0]

    def _set_token_lengths(self, stage: Stage) -> None:
        """Set the mean length of a token in characters and bytes, where the data measures it."""
        density = getattr(getattr(self.trainer, "datamodule", None), "text_density", None)
        if density is None:
            return
        characters, length = density(stage)
        for metric in self.metrics_of(stage).values():
            if isinstance(metric, BitsPerCharacter) and self.characters_per_token is None:
                metric.characters_per_token = characters
            if isinstance(metric, BitsPerByte):
                metric.bytes_per_token = length


def balanced(
    total: Tensor, count: Tensor, network: nn.Module, weight: float, task: Task | None = None
) -> Tensor:
    """Return a sum of losses plus the load-balancing loss of the network's experts, [].

    Args:
        total: sum of the losses over labels, [].
        count: number of labels, [], by which the load-balancing loss is multiplied too.
        network: perhaps with experts.
        weight: of the load-balancing loss.
        task: that is trained; with several ranks, the loss is that of the nodes of all of them.
    """
    if not weight:
        return total
    if task is None or data_parallel(task).size == 1:
        balance = balance_loss(network)
        return total if balance is None else total + weight * balance * count
    share = balance_loss_share(network, task.sum_over_ranks)
    return total if share is None else total + weight * share * task.sum_over_ranks(count)
