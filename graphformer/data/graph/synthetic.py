"""Made-up graphs whose answer lies farther away than a few layers along the edges reach."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Data

from graphformer.data.base import DataModule
from graphformer.data.graph.datasets import GraphDataset
from graphformer.data.loader import BatchLoader, BatchSampler


class RingTransfer(DataModule):
    """Rings in which one node is to tell what the node on the other side holds.

    Di Giovanni et al. 2023, https://arxiv.org/abs/2302.02941. The ring has `num_nodes` nodes, its
    edges go both ways. Node 0 is marked as the target; the node at `num_nodes` // 2 holds one of
    `num_classes` classes, the label, and all others hold classes too, as noise. Features x [N,
    num_classes + 2] are the class, one-hot, and the marks of target and source. The label y [N] is
    -100 but for the target. Layers that go along the edges need a depth of `num_nodes` // 2 at
    least; with fewer, nothing better than guessing is possible. Rings are turned by chance, so
    that no place in the batch gives the answer away.
    """

    num_edge_features = 0

    def __init__(
        self,
        num_nodes: int = 20,
        num_classes: int = 5,
        batch_size: int = 64,
        *,
        train_size: int = 4000,
        test_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_nodes < 4 or num_classes < 2:
            raise ValueError(
                f"num_nodes is {num_nodes} and num_classes {num_classes}: expected 4 nodes and 2 "
                "classes or more."
            )
        self.save_hyperparameters(logger=False)
        self.num_nodes, self.num_classes, self.batch_size = num_nodes, num_classes, batch_size
        self.sizes = {"train": train_size, "val": test_size, "test": test_size}
        self.seed = seed
        self.num_features = num_classes + 2

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split."""
        number = list(self.sizes).index(split)
        generator = np.random.default_rng((self.seed, number))
        rings = GraphDataset([self._ring(generator) for _ in range(self.sizes[split])])
        order = BatchSampler(len(rings), self.batch_size, shuffle=split == "train", seed=self.seed)
        return BatchLoader(rings, order)

    def _ring(self, generator: np.random.Generator) -> Data:
        nodes = torch.arange(self.num_nodes)
        held = torch.from_numpy(generator.integers(self.num_classes, size=self.num_nodes))
        target = int(generator.integers(self.num_nodes))
        source = (target + self.num_nodes // 2) % self.num_nodes
        x = torch.zeros(self.num_nodes, self.num_features)
        x[nodes, held] = 1.0
        x[target, -2] = x[source, -1] = 1.0
        y = torch.full((self.num_nodes,), -100)
        y[target] = held[source]
        edges = torch.stack([nodes, nodes.roll(-1)])
        return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=y)
