"""The split of `predict`, and the refusal of splits without labels."""

from __future__ import annotations

import lightning.pytorch as pl

from graphformer.cli.errors import UsageError
from graphformer.data.base import DataModule
from graphformer.data.graph.datasets import GraphBatches
from graphformer.data.graph.neighbor_loader import NeighborNodes
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.own.nodes import OwnGraph
from graphformer.data.text.classification import LabelledText
from graphformer.data.vision.base import PatchImages, ScaledImages
from graphformer.distributed import PartitionedGraph
from graphformer.tasks import LinkPrediction, Task


def choose_split(model: Task, data: pl.LightningDataModule, split: str) -> None:
    """Set the split to predict; batches of one graph contain the nodes of all splits.

    Raises:
        UsageError: for all samples of data whose splits are other samples, and for all links.
    """
    if split == "all" and not isinstance(data, FullGraph | PartitionedGraph):
        raise UsageError(
            f"--split: got all with {type(data).__name__}, expected train, val or test; all is for "
            "the nodes of one graph"
        )
    graph = own_graph(data)
    if graph is not None and split != "all":
        check_labelled(graph, split, "predict all nodes by --split all")
    if isinstance(model, LinkPrediction):
        if split == "all":
            raise UsageError("--split: got all with links, expected train, val or test")
        model.predict_split = split
    elif isinstance(data, DataModule) and split not in ("all", "test"):
        data.predict_split = split
    if isinstance(data, ScaledImages):
        data.augmentation = None  # of training images
    if isinstance(data, PatchImages | LabelledText | GraphBatches):
        data.balanced = False  # each training sample once


def own_graph(data: pl.LightningDataModule | None) -> OwnGraph | None:
    """Return the own graph that is the data, or that the data divides or samples; else None."""
    graph = data.source if isinstance(data, NeighborNodes | PartitionedGraph) else data
    return graph if isinstance(graph, OwnGraph) else None


def check_labelled(data: OwnGraph, split: str, remedy: str = "add labels") -> None:
    """Refuse a split without nodes, as of a file of new nodes.

    Raises:
        UsageError: when it has none.
    """
    if data.graph is not None and not data.graph[f"{split}_mask"].any():
        raise UsageError(
            f"data: got no labelled nodes in the split {split} of {type(data).__name__}, expected "
            f"some; {remedy}"
        )
