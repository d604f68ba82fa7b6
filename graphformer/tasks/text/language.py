"""Language modelling: the next token at every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.nn import balance_loss
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates
from graphformer.tasks.metrics import BitsPerByte, BitsPerCharacter, Mean, Perplexity

if TYPE_CHECKING:
    from torch_geometric.data import Data

BALANCE = 0.01  # of the load-balancing loss, as in Fedus et al., 2022, section 2.2


class LanguageModeling(Task):
    """Next-token prediction: -sum_i log P(y_i | x_1 .. x_i), with loss, perplexity and bits.

    `batch.y` [N] holds the token that follows each node; -100 marks nodes without one.

    Args:
        network: logits over the vocabulary, [N, K].
        adjacency: must not show a node what follows it.
        characters_per_token: mean length of a token in characters, for bits per character; by
            default what the data tells, or else 1.
        balance: weight of the load-balancing loss, where the network has a mixture of experts.
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
        """Ask the data how long its tokens are."""
        self._set_token_lengths("val")

    def on_test_start(self) -> None:
        """Ask the data how long its tokens are."""
        self._set_token_lengths("test")

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the batch's labels, []."""
        total, count = self._loss(batch)
        total = balanced(total, count, self.network, self.balance)
        return self.training_loss(total, count, rows=batch.y.shape[0])

    def _loss(self, batch: Data) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        total = F.cross_entropy(logits.float(), batch.y, ignore_index=IGNORE_INDEX, reduction="sum")
        return total, (batch.y != IGNORE_INDEX).sum()

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sum of the loss; no bits per byte where the length of a token in bytes is unknown."""
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


def balanced(total: Tensor, count: Tensor, network: nn.Module, weight: float) -> Tensor:
    """The sum of losses over labels, with the load-balancing loss of the network's experts."""
    balance = balance_loss(network) if weight else None
    return total if balance is None else total + weight * balance * count
