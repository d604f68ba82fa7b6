"""A task's network whose logits are divided by the fitted temperature."""

from __future__ import annotations

from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.batch_type import Batch
from graphformer.tasks import Classification, Task


class _Calibrated(nn.Module):
    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, batch: Batch, adjacency: Adjacency) -> Tensor:
        logits: Tensor = self.network(batch, adjacency)
        return logits / self.temperature


def calibrated(task: Task) -> nn.Module:
    """Return the network, as `predict` uses it: with the temperature of `graphformer trust`."""
    if isinstance(task, Classification) and task.temperature != 1.0:
        return _Calibrated(task.network, task.temperature)
    return task.network
