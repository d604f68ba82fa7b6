"""Class tokens and registers in adjacencies: each connects to all nodes of its image."""

from __future__ import annotations

from functools import lru_cache

import torch

from graphformer import adjacency as adjacencies
from graphformer.adjacency import Adjacency, Complete, HeadEdges
from graphformer.patterns import GlobalNodes
from graphformer.patterns.fields import Layout


def connect_tokens(adjacency: Adjacency, lengths: tuple[int, ...], count: int) -> Adjacency:
    """Return the adjacency over patches and tokens, where the tokens come first in each image.

    A token attends to all nodes of its image, and all of these attend to it.

    Args:
        adjacency: N x N among the patches; one that includes the tokens is returned unchanged.
        lengths: number of patches of each image, B ints.
        count: tokens per image.

    Returns:
        An adjacency over N + B * count nodes.

    Raises:
        ValueError: when the adjacency has neither size.
    """
    patches, nodes = sum(lengths), sum(lengths) + count * len(lengths)
    if adjacency.shape == (nodes, nodes):
        return adjacency
    if adjacency.shape != (patches, patches):
        raise ValueError(
            f"adjacency: got {adjacency.shape[0]} x {adjacency.shape[1]}, expected the {patches} "
            f"patches, or these and the {nodes - patches} tokens, on both sides"
        )
    return _connect(adjacency, lengths, count)


@torch.compiler.disable  # a compiled model uses the cached adjacency
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _connect(adjacency: Adjacency, lengths: tuple[int, ...], count: int) -> Adjacency:
    if isinstance(adjacency, HeadEdges):
        return HeadEdges.of(*(_connect(a, lengths, count) for a in head_adjacencies(adjacency)))
    with_tokens = tuple(length + count for length in lengths)
    if isinstance(adjacency, Complete) and adjacency.lengths == lengths:
        return adjacencies.complete(with_tokens).to(adjacency.device)
    # A patch of image b moves by the tokens of the images 0 to b.
    per_image = torch.tensor(lengths, device=adjacency.device)
    image = torch.arange(len(lengths), device=adjacency.device).repeat_interleave(per_image)
    edge_index = adjacency.edge_index + (count * (image + 1))[adjacency.edge_index]
    among_patches = adjacencies.from_edge_index(edge_index, (sum(with_tokens), sum(with_tokens)))
    return among_patches | GlobalNodes(count)(Layout(with_tokens, adjacency.device))


def head_adjacencies(adjacency: HeadEdges) -> list[Adjacency]:
    """Return the adjacency of each head, H of them."""
    assert adjacency.heads is not None
    edge_index = adjacency.edge_index
    return [
        adjacencies.from_edge_index(edge_index[:, in_head], adjacency.shape)
        for in_head in adjacency.heads.T
    ]
