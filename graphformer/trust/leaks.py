"""Leaks of a data set: samples, nodes and edges that training and test splits share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.batch_type import BatchLike
from graphformer.data.loader import BatchDataset


def sample_hashes(samples: BatchDataset, count: int | None = None) -> list[str]:
    """Return a hash of the input of each sample: nodes, edges and edge features, without label.

    Args:
        samples: of a split.
        count: maximum number of samples, the first; None for all.
    """
    number = len(samples) if count is None else min(count, len(samples))
    return [input_hash(samples[torch.tensor([index])]) for index in range(number)]


def input_hash(batch: BatchLike) -> str:
    """Return a hash of what a model reads of a batch, apart from positions and encodings."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("x", "edge_index", "edge_attr", "source"):
        value = batch.get(name)
        if isinstance(value, Tensor):
            array = value.to_dense().contiguous().cpu().numpy()
            digest.update(f"{name} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def shared_samples(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Return, for each sample of `second` with an equal one in `first`, the indices of both."""
    place = {value: index for index, value in reversed(list(enumerate(first)))}
    return [(place[value], index) for index, value in enumerate(second) if value in place]


def shared_pairs(first: Tensor, second: Tensor) -> Tensor:
    """Return which pairs of `second` are in `first` in either direction, bool [P].

    Args:
        first, second: pairs of nodes, int64 [2, E] and [2, P].
    """
    size = int(torch.cat([first, second], dim=1).max()) + 1 if first.numel() else 1
    keys = [np.asarray(p.min(0).values * size + p.max(0).values) for p in (first, second)]
    return torch.from_numpy(np.isin(keys[1], keys[0]))


def overlapping_masks(graph: Data) -> dict[str, int]:
    """Return how many nodes are in two splits of a graph, by the names of both splits."""
    masks = {
        split: graph[f"{split}_mask"]
        for split in ("train", "val", "test")
        if graph.get(f"{split}_mask") is not None
    }
    names = list(masks)
    return {
        f"{one} and {other}": int((masks[one] & masks[other]).sum())
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    }


def leaking_edges(graph: Data) -> dict[str, int]:
    """Return how many answers of a link prediction the network or the training can read.

    Args:
        graph: with `edge_index`, `train_edge_label_index`, and pairs to predict and their labels of
            "val" and "test".
    """
    counts = {}
    for split in ("val", "test"):
        pairs = graph[f"{split}_edge_label_index"][:, graph[f"{split}_edge_label"] == 1]
        counts[f"{split} edges in edge_index"] = int(shared_pairs(graph.edge_index, pairs).sum())
        train = graph.train_edge_label_index
        counts[f"{split} edges among the training pairs"] = int(shared_pairs(train, pairs).sum())
    return counts


def degrees_differ(graph: Data) -> int:
    """Return how many nodes have a degree in the features that is not that of `edge_index`.

    Degrees that were counted before edges were hidden tell where these are.
    """
    count = torch.zeros(len(graph.x), dtype=torch.long)
    wrong = torch.zeros(len(graph.x), dtype=torch.bool)
    for name, row in (("in_degree", 1), ("out_degree", 0)):
        if graph.get(name) is not None:
            ones = torch.ones_like(graph.edge_index[row])
            wrong |= count.index_add(0, graph.edge_index[row], ones) != graph[name].flatten()
    return int(wrong.sum())
