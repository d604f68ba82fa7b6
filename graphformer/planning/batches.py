"""Batches of given sizes, for plans without data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

import lightning.pytorch as pl
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from graphformer.batch_type import Batch, BatchLike
from graphformer.data.batch import pack_nodes

Modality = Literal["text", "vision", "graph"]


class NoData(pl.LightningDataModule):
    """A data module without data, in place of one that a plan does not read."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a batch.

    Attributes:
        samples: number of samples B.
        nodes: of one sample: tokens, patches or nodes.
        edges: of one sample, for graphs.
        num_features: width of the nodes, for images and graphs.
        num_edge_features: width of the edges; 0 for none.
        labels: whether there is one label per "node" or per "graph".
    """

    samples: int
    nodes: int
    edges: int | None = None
    num_features: int = 0
    num_edge_features: int = 0
    labels: Literal["node", "graph"] = "node"

    def one_sample(self) -> Sizes:
        """Return the sizes of a batch of one sample."""
        return replace(self, samples=1)


def make_batch(modality: Modality, sizes: Sizes, fake: FakeTensorMode) -> BatchLike:
    """Return a batch of these sizes; features and edges have no values.

    Args:
        modality: of the network: token ids, patches of square images, or graphs.
        sizes: of the batch.
        fake: the mode of tensors without values.

    Raises:
        ValueError: for graphs without a number of edges.
    """
    lengths = (sizes.nodes,) * sizes.samples
    num_nodes = sizes.samples * sizes.nodes
    rows = num_nodes if sizes.labels == "node" else sizes.samples
    batch: Batch = pack_nodes(torch.zeros(num_nodes, dtype=torch.int64), lengths)
    batch.y = torch.zeros(rows, dtype=torch.int64)
    if modality == "text":
        return batch
    with fake:
        batch.x = torch.empty(num_nodes, sizes.num_features)
    if modality == "vision":
        height = next(h for h in range(isqrt(sizes.nodes), 0, -1) if sizes.nodes % h == 0)
        shape = height, sizes.nodes // height
        grid = torch.cartesian_prod(torch.arange(shape[0]), torch.arange(shape[1]))
        batch.pos, batch.shapes = grid.repeat(sizes.samples, 1), (shape,) * sizes.samples
        return batch
    if sizes.edges is None:
        raise ValueError("edges: got None, expected the edges of a graph; set --edges")
    count = sizes.edges * sizes.samples
    with fake:
        batch.edge_index = torch.empty(2, count, dtype=torch.int64)
        if sizes.num_edge_features:
            batch.edge_attr = torch.empty(count, sizes.num_edge_features)
    return batch
