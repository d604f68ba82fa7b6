"""A table of edge-case adjacencies for all backends; sizes are distinct primes."""

from __future__ import annotations

from collections.abc import Callable

import torch

import graphformer as gf
from graphformer.adjacency import Adjacency


def random_edges(targets: int, sources: int, count: int, seed: int = 0) -> torch.Tensor:
    """Distinct random edges in random order, int64 [2, count]."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(targets * sources, generator=generator)[:count]
    return torch.stack([cells % sources, cells // sources])


def hub(nodes: int) -> torch.Tensor:
    """Node 2 attends to all and is attended to by all."""
    others = torch.arange(nodes)
    centre = torch.full((nodes,), 2)
    return torch.cat([torch.stack([others, centre]), torch.stack([centre, others])], dim=1)


def with_duplicates() -> Adjacency:
    edges = random_edges(7, 7, 19)
    return gf.from_edge_index(torch.cat([edges, edges[:, 3:8], edges[:, :2]], dim=1), 7)


def isolated() -> Adjacency:
    """Edges among the first 5 of 11 nodes."""
    return gf.from_edge_index(random_edges(5, 5, 13), 11)


def non_contiguous() -> Adjacency:
    edges = random_edges(13, 13, 31).T.contiguous().repeat_interleave(2, dim=0)[::2].T
    assert not edges.is_contiguous()
    return gf.from_edge_index(edges, 13)


AWKWARD: dict[str, Callable[[], Adjacency]] = {
    "complete": lambda: gf.complete(11),
    "complete-equal": lambda: gf.complete([5, 5, 5]),
    "complete-ragged": lambda: gf.complete([3, 0, 7, 1, 3]),
    "complete-bipartite": lambda: gf.complete([3, 5, 0, 2], [7, 0, 2, 11]),
    "causal": lambda: gf.causal(13),
    "causal-ragged": lambda: gf.causal([7, 1, 0, 7, 2]),
    "causal-cached": lambda: gf.causal([2, 1, 3], [11, 7, 3]),
    "causal-fewer-sources": lambda: gf.causal([7, 5], [3, 5]),
    "window": lambda: gf.window([17, 0, 5, 1], 2),
    "window-causal": lambda: gf.window([13, 7], 3, causal=True),
    "window-wide": lambda: gf.window([3, 2], 19),
    "grid": lambda: gf.grid([(3, 5), (1, 7), (0, 2), (2, 0), (3, 5)]),
    "grid-self-loops": lambda: gf.grid((5, 3), radius=0),
    "random": lambda: gf.from_edge_index(random_edges(17, 17, 53), 17),
    "sparse": lambda: gf.from_edge_index(random_edges(37, 37, 41), 37),
    "duplicates": with_duplicates,
    "isolated": isolated,
    "hub": lambda: gf.from_edge_index(hub(23), 23),
    "non-contiguous": non_contiguous,
    "int32": lambda: gf.from_edge_index(random_edges(7, 7, 23).int(), 7),
    "bipartite": lambda: gf.from_edge_index(random_edges(5, 13, 29), (5, 13)),
    "no-edges": lambda: gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 5),
    "no-sources": lambda: gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), (3, 0)),
    "no-targets": lambda: gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), (0, 3)),
    "no-nodes": lambda: gf.complete(0),
    "no-samples": lambda: gf.complete([]),
    "one-node": lambda: gf.from_edge_index(torch.tensor([[0], [0]]), 1),
    "one-isolated-node": lambda: gf.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 1),
    "batch": lambda: gf.batch([gf.window(7, 1), gf.complete(2, 3), isolated(), with_duplicates()]),
    "union": lambda: gf.window(11, 1) | gf.from_edge_index(hub(11), 11),
    "transposed": lambda: with_duplicates().T,
    "self-loops": lambda: gf.from_edge_index(random_edges(7, 7, 11), 7).with_self_loops(),
}
