"""`RewardModeling`: a scalar for each text, trained on pairs of a chosen and a rejected one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import BinaryCalibrationError
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions


class RewardModeling(Task):
    """The mean of -log sigmoid(r+ - r- - margin) + lambda |theta|^2 + c (r+ + r-)^2 over pairs.

    The batches are those of `PreferenceFile`. Metrics: the loss; the accuracy, that is the share of
    pairs whose chosen text has the larger reward; the mean of r+ - r- (`margin`) and of all rewards
    (`mean_reward`); the expected calibration error of sigmoid(|r+ - r-|) as the probability of
    being right; and `length_accuracy`, the accuracy of choosing the answer with fewer characters.

    Args:
        network: computes a reward for each text, [B, 1], at its last token, as
            `models.reward_model`.
        adjacency: pattern of the edges of attention.
        l2: lambda, a penalty on all trained weights theta.
        centring: c, the weight of a penalty on rewards whose sum in a pair is not 0.
        options: those of `Task`.

    Source: Bradley and Terry, 1952; Ouyang et al., 2022, equation 1; Eisenstein et al., 2024,
    "Helping or herding?", section 3.1 (centring).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        l2: float = 0.0,
        centring: float = 0.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.l2, self.centring = l2, centring
        means = ("loss", "accuracy", "margin", "mean_reward", "length_accuracy")
        metrics: dict[str, Metric] = {name: Mean() for name in means}
        self.add_metrics({**metrics, "calibration_error": BinaryCalibrationError(n_bins=10)})

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the pairs, []."""
        rewards = self._rewards(batch)
        total = self._losses(rewards, batch.margin).sum()
        if self.l2:
            trained = (p for p in self.network.parameters() if p.requires_grad)
            total = total + len(rewards) * self.l2 * sum(p.square().sum() for p in trained)
        count = torch.tensor(len(rewards), device=rewards.device)
        return self.training_loss(total, count, rows=len(rewards))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return sums over the pairs and their number, and probabilities for the calibration."""
        rewards = self._rewards(batch)
        difference = rewards[:, 0] - rewards[:, 1]
        count = torch.tensor(len(rewards), device=rewards.device)
        updates = {
            "loss": (self._losses(rewards, batch.margin).sum(), count),
            "accuracy": (_share_right(difference).sum(), count),
            "margin": (difference.sum(), count),
            "mean_reward": (rewards.sum(), 2 * count),
            "length_accuracy": (_share_right(-batch.length_difference).sum(), count),
            "calibration_error": (difference.abs().sigmoid(), (difference > 0).long()),
        }
        return updates, len(rewards)

    def _rewards(self, batch: BatchLike) -> Tensor:
        """Return the rewards of chosen and rejected texts, [P, 2].

        Raises:
            ValueError: when the network does not return one value for each text.
        """
        output: Tensor = self(batch)
        if output.shape != (len(batch.lengths), 1):
            raise ValueError(
                f"network: got an output of shape {list(output.shape)} for {len(batch.lengths)} "
                "texts, expected one value for each; use models.reward_model, or "
                "pretrained.classifier with pool='last' and num_classes=1"
            )
        return at_least_float32(output).view(-1, 2)

    def _losses(self, rewards: Tensor, margin: Tensor) -> Tensor:
        """Return the loss of each pair without the penalty on weights, [P]."""
        losses = -F.logsigmoid(rewards[:, 0] - rewards[:, 1] - margin)
        return losses + self.centring * rewards.sum(1).square()


def _share_right(difference: Tensor) -> Tensor:
    """Return 1 for positive numbers, 0 for negative ones and 1/2 for zero."""
    return (difference.sign() + 1) / 2
