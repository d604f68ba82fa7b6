"""A random graph as tensors, and as a folder that memory maps read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from graphformer.data import MemoryMappedGraph, convert_arrays


def arrays(num_nodes: int = 211, num_edges: int = 1709) -> dict[str, Tensor]:
    """Return a graph with repeated edges and loops, 5 features and 3 classes that they show."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (num_nodes,), generator=generator)
    x = torch.randn(num_nodes, 5, generator=generator)
    x[torch.arange(num_nodes), y] += 2.0
    return {
        "edge_index": torch.randint(num_nodes, (2, num_edges), generator=generator),
        "edge_attr": torch.randn(num_edges, 2, generator=generator),
        "x": x,
        "y": y,
    }


def store(folder: Path, given: dict[str, Tensor], **options: bool) -> MemoryMappedGraph:
    """Write a graph of tensors to a folder."""
    return convert_arrays(
        folder, **{name: value.numpy() for name, value in given.items()}, **options
    )
