"""Replaced-token detection: which tokens did a small masked language model put there?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import BinaryF1Score
from typing_extensions import Unpack

from graphformer.batch_type import IGNORE_INDEX
from graphformer.models.generation.sampling import draw_tokens
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.base import Stage, Task, TaskOptions, Updates
from graphformer.tasks.metrics import Mean
from graphformer.tasks.seeding import batch_generator
from graphformer.tasks.text.masked_language import Masking, logits_of, make_masking

if TYPE_CHECKING:
    import numpy as np
    from torch_geometric.data import Data


class ReplacedTokenDetection(Task):
    """ELECTRA: a generator fills masks, and the network tells which tokens are not the text's own.

    The loss is the generator's on hidden tokens plus `weight` times the network's on all tokens;
    no gradient goes through what was drawn. Reads `batch.x` [N] alone.

    Args:
        network: one logit a node [N, 1] (a tagger of one class): is the token replaced?
        generator: logits over the vocabulary, [N, K]: a smaller masked language model.
        adjacency: who attends to whom.
        weight: of the network's loss.
        mask_rate: share of the tokens to replace.
        seed: of masks and draws.
        options: those of `Task`.

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
        self.generator = generator
        self.weight, self.mask_rate, self.seed = weight, mask_rate, seed
        self.masking: Masking | None = None
        self.add_metrics(
            {"loss": Mean(), "generator_loss": Mean(), "accuracy": Mean(), "f1": BinaryF1Score()}
        )

    def setup(self, stage: str) -> None:
        """Forget another run's vocabulary."""
        super().setup(stage)
        self.masking = None

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Weighted sum of both mean losses, []."""
        generated, hidden, detected, _ = self._losses(batch, batch_idx, training=True)
        # Both are means over labels of their own kind; accumulation counts those of the network.
        rows = len(batch.x)
        total = rows * generated / hidden.clamp(min=1) + self.weight * detected
        return self.training_loss(total, hidden.new_tensor(rows), rows=rows)

    def _losses(
        self, batch: Data, batch_idx: int, *, training: bool
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The generator's summed loss and number of labels; the network's summed loss, outputs."""
        if self.masking is None:
            self.masking = make_masking(self, rate=self.mask_rate, seed=self.seed)
        chance = batch_generator(self, self.seed, batch_idx, training=training)
        masked, y = self.masking(batch, chance)
        adjacency = self.adjacency(batch)
        asked = y != IGNORE_INDEX
        guesses = logits_of(self.generator, masked, adjacency, asked)
        generated = F.cross_entropy(guesses, y[asked], reduction="sum")
        filled = batch.clone()
        filled.x = batch.x.masked_scatter(asked, _draw(guesses, chance))
        replaced = (filled.x != batch.x).float()
        logits = self.network(filled, adjacency).float().squeeze(-1)
        detected = F.binary_cross_entropy_with_logits(logits, replaced, reduction="sum")
        return generated, asked.sum(), detected, (logits, replaced)

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Sums of both losses and of right answers, and probabilities for F1."""
        generated, hidden, detected, (logits, replaced) = self._losses(
            batch, batch_idx, training=False
        )
        rows = hidden.new_tensor(len(batch.x))
        right = ((logits > 0) == (replaced > 0)).sum()
        updates = {
            "loss": (detected, rows),
            "generator_loss": (generated, hidden),
            "accuracy": (right, rows),
            "f1": (logits.sigmoid(), replaced.long()),
        }
        return updates, len(batch.x)


@torch.no_grad()
def _draw(logits: Tensor, generator: np.random.Generator) -> Tensor:
    """Draw a token a row from logits [n, K], by where a uniform number falls; [n]."""
    return draw_tokens(logits.softmax(-1), torch.from_numpy(generator.random(len(logits))))
