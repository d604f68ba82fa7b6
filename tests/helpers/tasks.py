"""A linear network, batches of nodes and a trainer for tests of tasks."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch_geometric.data import Data

import graphformer as gf

CLASSES = 5


class Linear(nn.Module):
    """Mean over the neighbours, then a linear map; one row a node."""

    def __init__(self, features: int = 3, outputs: int = CLASSES) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, batch: Data, adjacency: gf.Adjacency) -> Tensor:
        mask = adjacency.to_mask().to(batch.x.dtype)
        return self.linear(mask @ batch.x / mask.sum(1, keepdim=True).clamp(min=1))


def node_batch(nodes: int, seed: int, labels: Sequence[int] | None = None) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 3, generator=generator)
    y = torch.randint(CLASSES, (nodes,), generator=generator)
    if labels is not None:
        labelled = torch.zeros(nodes, dtype=torch.bool)
        labelled[list(labels)] = True
        y = y.masked_fill(~labelled, -100)
    return Data(x=x, y=y, lengths=(nodes,))


def trainer(**options: object) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )


class Batches(pl.LightningDataModule):
    def __init__(self, batches: list[Data]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader
