"""Leaks of a data set: samples, nodes and edges that splits share, and encodings of test edges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.batch_type import BatchLike
from graphformer.data.graph.encodings import Degree, RandomWalk, ShortestPaths
from graphformer.data.graph.laplacian import laplacian_residual
from graphformer.data.loader import BatchDataset

_ROUNDING = 1e-4
"""Difference of encodings up to which they are equal; they are stored in float32."""


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


def encodings_differ(graph: Data) -> dict[str, int]:
    """Return encoding -> number of nodes for which it is not that of `edge_index`.

    Encodings that were computed before edges were hidden tell where these are. Degrees and return
    probabilities of random walks are computed again, for those of shortest paths their first pairs
    are compared, and columns of `laplacian_pe` must be eigenvectors of the Laplacian.

    Args:
        graph: with `edge_index`; encodings that it lacks are left out.
    """
    nodes, edges = len(graph.x), graph.edge_index.cpu().numpy()
    found = {}
    if {"in_degree", "out_degree"} & set(graph.keys()):
        found["degree"] = _different_rows(graph, Degree().fields(edges, nodes))
    if graph.get("random_walk_pe") is not None:
        steps = graph.random_walk_pe.shape[1]
        found["random_walk"] = _different_rows(graph, RandomWalk(steps).fields(edges, nodes))
    if graph.get("laplacian_pe") is not None:
        residual = laplacian_residual(edges, graph.laplacian_pe.double().numpy())
        found["laplacian"] = int((residual > _ROUNDING).any(1).sum())
    if graph.get("path_index") is not None:
        found["shortest_path"] = _different_paths(graph, edges, nodes)
    return found


def _different_rows(graph: Data, fields: Mapping[str, Tensor]) -> int:
    """Return the number of nodes whose fields are not the given ones."""
    wrong = torch.zeros(len(graph.x), dtype=torch.bool)
    for name, expected in fields.items():
        if graph.get(name) is not None:
            difference = (graph[name].double() - expected.double()).abs().view(len(wrong), -1)
            wrong |= (difference > _ROUNDING).any(1)
    return int(wrong.sum())


def _different_paths(graph: Data, edges: np.ndarray, nodes: int) -> int:
    """Return the number of nodes whose distances to others are not those of the edges."""
    given = graph.path_index.numpy(), graph.path_length.numpy()
    longest = int(given[1].max(initial=1))
    fields = ShortestPaths(longest, nodes=False).fields(edges, nodes)
    keys = [
        (path[0].astype(np.int64) * nodes + path[-1]) * (longest + 1) + length
        for path, length in (given, (fields["path_index"].numpy(), fields["path_length"].numpy()))
    ]
    return len(np.unique(np.setxor1d(*keys) // (longest + 1) // nodes))
