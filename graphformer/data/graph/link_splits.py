"""Splits of edges for link prediction: hidden edges, and node pairs without an edge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.base import run_seed
from graphformer.data.graph.node_datasets import Planetoid


class PlanetoidLinks(Planetoid):
    """Cora, CiteSeer or PubMed with hidden citations to predict, as in GAE.

    The graph has only the training edges: both directions in `edge_index`, and each edge once in
    `train_edge_label_index` [2, P]. For validation and testing, `val_edge_label_index` [2, P] and
    `val_edge_label` [P] hold the hidden edges (1) and as many pairs without an edge (0), and so do
    the fields for testing. There are no node labels.

    Args:
        name: Cora, CiteSeer or PubMed.
        val_fraction, test_fraction: fractions of the edges that are hidden for each split.
        normalize_features, sparse, root: as in `Planetoid`.
        seed: random seed of the split; None for the seed of the run.

    Raises:
        MissingDataError: when a raw file is missing and cannot be downloaded.
        ValueError: for fractions of 0 or less, or with a sum of 1 or more.

    Source: Kipf and Welling, 2016, https://arxiv.org/abs/1611.07308.
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
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction and test_fraction: got {val_fraction} and {test_fraction}, expected "
                "both above 0 and a sum below 1, so that each split has edges"
            )
        self.val_fraction, self.test_fraction, self.seed = val_fraction, test_fraction, seed
        self.save_hyperparameters(logger=False)

    def read(self) -> Data:
        """Return the citation graph with the training edges and the pairs to predict."""
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
    """Hide edges of an undirected graph, and sample as many pairs of nodes without an edge.

    Args:
        edge_index: [2, E]; directions and duplicates are merged, self-loops left out.
        num_nodes: N.
        val_fraction, test_fraction: fractions of the undirected edges.
        seed: random seed.

    Returns:
        `edge_index` of the training edges, both directions; `train_edge_label_index`, each once;
        `val_edge_label_index`, `val_edge_label`, `test_edge_label_index`, `test_edge_label`.

    Raises:
        ValueError: when there are too few edges, or too few pairs without one.
    """
    pairs = _undirected_keys(edge_index, num_nodes)
    num_val, num_test = (int(len(pairs) * fraction) for fraction in (val_fraction, test_fraction))
    num_non_edges = num_nodes * (num_nodes - 1) // 2 - len(pairs)
    if min(num_val, num_test) < 1 or num_non_edges < 2 * (num_val + num_test):
        raise ValueError(
            f"edge_index: got {len(pairs)} edges and {num_non_edges} pairs of nodes without one, "
            f"too few to hide {num_val} for validation and {num_test} for testing; choose other "
            "fractions"
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(pairs))
    val, test, train = np.split(pairs[order], [num_val, num_val + num_test])
    negatives = _sample_non_edges(pairs, num_nodes, num_val + num_test, generator)
    train_edges = _unpack(np.sort(train), num_nodes)
    split = {
        "edge_index": torch.cat([train_edges, train_edges.flip(0)], dim=1),
        "train_edge_label_index": train_edges,
    }
    for name, positive, negative in (
        ("val", val, negatives[:num_val]),
        ("test", test, negatives[num_val:]),
    ):
        split[f"{name}_edge_label_index"] = _unpack(np.concatenate([positive, negative]), num_nodes)
        split[f"{name}_edge_label"] = (torch.arange(2 * len(positive)) < len(positive)).long()
    return split


def _undirected_keys(edge_index: Tensor, num_nodes: int) -> np.ndarray:
    """Return each undirected edge {u, v}, u < v, once as the number u * N + v, ascending."""
    low, high = edge_index.min(0).values.numpy(), edge_index.max(0).values.numpy()
    return np.unique((low * num_nodes + high)[low != high])


def _sample_non_edges(
    pairs: np.ndarray, num_nodes: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Return `count` distinct keys of pairs that are not in `pairs`, by rejection sampling."""
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        u, v = generator.integers(num_nodes, size=(2, 2 * count))
        drawn = np.minimum(u, v) * num_nodes + np.maximum(u, v)
        drawn = drawn[(u != v) & ~np.isin(drawn, pairs)]
        found = np.concatenate([found, drawn])
        # Drop repeated keys, but keep the order of the draws: a sorted prefix would be biased.
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return found[:count]


def _unpack(pairs: np.ndarray, num_nodes: int) -> Tensor:
    """Return the pairs [2, P] of keys u * N + v."""
    return torch.from_numpy(np.stack([pairs // num_nodes, pairs % num_nodes]))
