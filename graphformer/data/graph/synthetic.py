"""Synthetic graphs for tests of long-range dependencies."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Data

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import DataModule
from graphformer.data.graph.datasets import GraphDataset
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.deprecated import renamed_keywords


class RingTransfer(DataModule):
    """Rings in which one node has to predict the class of the node on the opposite side.

    A ring has `num_nodes` nodes and edges in both directions. A random node is the target; the node
    `num_nodes` // 2 steps away is the source, whose class is the label. All other nodes have random
    classes too, as noise. Features x [N, num_classes + 2] are the class, one-hot, and two marks, of
    the target and of the source. The label y [N] is -100 except at the target. Message passing
    needs a depth of at least `num_nodes` // 2; with less, accuracy stays at chance.

    Args:
        num_nodes: nodes in a ring, 4 or more.
        num_classes: number of classes, 2 or more.
        batch_size: rings in a batch.
        train_size: number of training rings.
        test_size: number of validation rings, and of test rings.
        seed: random seed of the rings and their order.

    Raises:
        ValueError: for fewer nodes or classes.

    Source: Di Giovanni et al., 2023, https://arxiv.org/abs/2302.02941.
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
        if num_nodes < 4:
            raise ValueError(f"num_nodes: got {num_nodes}, expected 4 or more")
        if num_classes < 2:
            raise ValueError(f"num_classes: got {num_classes}, expected 2 or more")
        self.save_hyperparameters(logger=False)
        self.num_nodes, self.num_classes, self.batch_size = num_nodes, num_classes, batch_size
        self.sizes = {"train": train_size, "val": test_size, "test": test_size}
        self.seed = seed
        self.num_features = num_classes + 2

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return batches of the rings of a split, which depend on the seed and the split only."""
        number = list(self.sizes).index(split)
        generator = np.random.default_rng((self.seed, number))
        rings = GraphDataset([self._ring(generator) for _ in range(self.sizes[split])])
        order = BatchSampler(len(rings), self.batch_size, shuffle=split == "train", seed=self.seed)
        return BatchLoader(rings, order)

    def _ring(self, generator: np.random.Generator) -> Data:
        nodes = torch.arange(self.num_nodes)
        classes = torch.from_numpy(generator.integers(self.num_classes, size=self.num_nodes))
        target = int(generator.integers(self.num_nodes))
        source = (target + self.num_nodes // 2) % self.num_nodes
        x = torch.zeros(self.num_nodes, self.num_features)
        x[nodes, classes] = 1.0
        x[target, -2] = x[source, -1] = 1.0
        y = torch.full((self.num_nodes,), IGNORE_INDEX)
        y[target] = classes[source]
        edges = torch.stack([nodes, nodes.roll(-1)])
        return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=y)
