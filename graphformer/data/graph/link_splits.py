"""Edges to be predicted: some are hidden from the graph, and as many pairs without one beside."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.base import run_seed
from graphformer.data.graph.node_datasets import Planetoid


class PlanetoidLinks(Planetoid):
    """Cora, CiteSeer or PubMed with hidden citations to be predicted, as in GAE.

    Kipf and Welling 2016, https://arxiv.org/abs/1611.07308. The graph has the training edges alone,
    both ways, in `edge_index`, and each of them once in `train_edge_label_index` [2, P]. For
    validation and testing, `val_edge_label_index` [2, P] and `val_edge_label` [P] hold the hidden
    edges (1) and as many pairs without one (0). A `seed` of None takes the run's own, so that runs
    with several seeds differ in their split.

    Raises:
        MissingDataError: a file is not there and cannot be fetched.
    """

    def __init__(
        self,
        name: str = "Cora",
        *,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        normalize_features: bool = True,
        sparse: bool = True,
        root: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name, normalize_features=normalize_features, sparse=sparse, root=root)
        root = None if root is None else os.fspath(root)
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} leave no edges for "
                "a split: expected both above 0 and a sum below 1."
            )
        self.val_fraction, self.test_fraction, self.seed = val_fraction, test_fraction, seed
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the citation graph without the edges to be predicted."""
        seed = run_seed() if self.seed is None else self.seed
        graph = super().read()
        split = split_links(
            graph.edge_index,
            graph.num_nodes,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=seed,
        )
        return Data(x=graph.x, **split)


def split_links(
    edge_index: Tensor, num_nodes: int, *, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, Tensor]:
    """Hide edges of an undirected graph, and draw as many pairs of nodes that have none.

    Args:
        edge_index: [2, E]; directions, duplicates and self-loops are left out of account.
        num_nodes: N.
        val_fraction, test_fraction: shares of the edges.
        seed: of the draw.

    Returns:
        `edge_index` of the training edges, both ways; `train_edge_label_index`;
        `val_edge_label_index` and `val_edge_label`, and those for testing.

    Raises:
        ValueError: there are too few edges, or too few pairs without one.
    """
    pairs = _pairs(edge_index, num_nodes)
    num_val, num_test = (int(len(pairs) * share) for share in (val_fraction, test_fraction))
    absent = num_nodes * (num_nodes - 1) // 2 - len(pairs)
    if min(num_val, num_test) < 1 or absent < 2 * (num_val + num_test):
        raise ValueError(
            f"The graph has {len(pairs)} edges and {absent} pairs of nodes without one: too few to "
            f"hide {num_val} for validation and {num_test} for testing."
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(pairs))
    val, test, train = np.split(pairs[order], [num_val, num_val + num_test])
    negatives = _absent_pairs(pairs, num_nodes, num_val + num_test, generator)
    kept = _unpack(np.sort(train), num_nodes)
    split = {
        "edge_index": torch.cat([kept, kept.flip(0)], dim=1),
        "train_edge_label_index": kept,
    }
    for name, positive, negative in (
        ("val", val, negatives[:num_val]),
        ("test", test, negatives[num_val:]),
    ):
        split[f"{name}_edge_label_index"] = _unpack(np.concatenate([positive, negative]), num_nodes)
        split[f"{name}_edge_label"] = (torch.arange(2 * len(positive)) < len(positive)).long()
    return split


def _pairs(edge_index: Tensor, num_nodes: int) -> np.ndarray:
    """Each undirected edge once as one number u * N + v with u < v, ascending."""
    low, high = edge_index.min(0).values.numpy(), edge_index.max(0).values.numpy()
    return np.unique((low * num_nodes + high)[low != high])


def _absent_pairs(
    pairs: np.ndarray, num_nodes: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        u, v = generator.integers(num_nodes, size=(2, 2 * count))
        drawn = np.minimum(u, v) * num_nodes + np.maximum(u, v)
        drawn = drawn[(u != v) & ~np.isin(drawn, pairs)]
        found = np.concatenate([found, drawn])
        found = found[np.sort(np.unique(found, return_index=True)[1])]  # distinct, as drawn
    return found[:count]


def _unpack(pairs: np.ndarray, num_nodes: int) -> Tensor:
    return torch.from_numpy(np.stack([pairs // num_nodes, pairs % num_nodes]))
