"""Language modelling: the next token at every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from graphformer.patterns import Causal, Pattern
from graphformer.tasks.base import IGNORED, Task
from graphformer.tasks.metrics import BitsPerCharacter, Mean, Perplexity

if TYPE_CHECKING:
    from torch_geometric.data import Data


class LanguageModeling(Task):
    """Next-token prediction: -sum_i log P(y_i | x_1 .. x_i), with loss, perplexity and bits.

    `batch.y` [N] holds the token that follows each node; -100 marks nodes without one.

    Args:
        network: logits over the vocabulary, [N, K].
        adjacency: must not show a node what follows it.
        characters_per_token: mean length of a token in characters, for bits per character.
        options: those of `Task`.
    """

    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        characters_per_token: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(network, adjacency, **options)
        metrics = MetricCollection(
            {
                "loss": Mean(),
                "perplexity": Perplexity(),
                "bits_per_character": BitsPerCharacter(characters_per_token),
            },
            compute_groups=False,  # Lightning reads each metric alone, and would see a stale state
        )
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Mean loss over the batch's labels, []."""
        total, count = self._loss(batch)
        return self.training_loss(total, count, rows=batch.y.shape[0])

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Update the validation metrics."""
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Data, batch_idx: int) -> None:
        """Update the test metrics."""
        self._evaluate(batch, self.test_metrics)

    def _loss(self, batch: Data) -> tuple[Tensor, Tensor]:
        logits = self(batch)
        total = F.cross_entropy(logits.float(), batch.y, ignore_index=IGNORED, reduction="sum")
        return total, (batch.y != IGNORED).sum()

    def _evaluate(self, batch: Data, metrics: MetricCollection) -> None:
        total, count = self._loss(batch)
        metrics.update(total, count)
        self.log_dict(metrics, prog_bar=True, batch_size=batch.y.shape[0])
