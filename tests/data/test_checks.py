"""Values that are not finite are named; awkward graphs train."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch_geometric.data import Data

from graphformer.data.checks import (
    check_channels,
    check_finite,
    check_not_empty,
    check_patch_size,
    check_split,
    one_of,
)
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.models import gat, graph_transformer
from graphformer.patterns import Edges
from graphformer.tasks import Classification


class Given(FullGraph):
    def __init__(self, graph: Data) -> None:
        super().__init__()
        self.given = graph

    def read(self) -> Data:
        return self.given


def labelled(nodes: int, edges: list[list[int]], **more: torch.Tensor) -> Data:
    mask = torch.ones(nodes, dtype=torch.bool)
    return Data(
        x=torch.randn(nodes, 5),
        y=torch.arange(nodes) % 2,
        edge_index=torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T,
        train_mask=mask,
        val_mask=mask,
        test_mask=mask,
        **more,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sparse", [False, True])
def test_nan_is_named_in_one_line(value: float, sparse: bool) -> None:
    graph = labelled(7, [[0, 1]])
    graph.x[3, 2] = value
    graph.x = SparseFeatures(graph.x) if sparse else graph.x
    with pytest.raises(ValueError, match="x has NaN or infinite values in 1 of 7 rows") as error:
        Given(graph).setup()
    assert str(error.value).startswith("Given: ")
    assert "first in row 3" in str(error.value)
    assert "\n" not in str(error.value)


def test_edge_values_are_checked_and_large_ones_pass() -> None:
    graph = labelled(3, [[0, 1]], edge_attr=torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="edge_attr"):
        check_finite("it", graph)
    huge = torch.full((3, 2), torch.finfo(torch.float32).max)
    check_finite("it", Data(x=huge, edge_index=torch.empty(2, 0, dtype=torch.long)))


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        (2, []),
        (2, [[0, 0]]),
        (5, []),
        (5, [[0, 1], [0, 1], [1, 1], [1, 0]]),  # duplicates, a self-loop, isolated nodes
    ],
)
@pytest.mark.parametrize("v2", [None, False, True])
def test_awkward_graphs_train(nodes: int, edges: list[list[int]], v2: bool | None) -> None:
    torch.manual_seed(0)
    graph = labelled(nodes, edges, edge_weight=torch.full((len(edges),), -1.0))
    if v2 is None:
        network = graph_transformer(5, 2, dim=8, num_heads=2, weighted=True)
    else:
        network = gat(5, 2, dim=3, num_heads=2, v2=v2)
    task = Classification(network, Edges(), num_classes=2, level="node")
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, Given(graph))
    assert all(torch.isfinite(p).all() for p in task.parameters())
    (result,) = trainer.test(task, Given(graph), verbose=False)
    assert result["test/loss"] < 10


def test_targets_are_checked() -> None:
    graph = Data(x=torch.ones(3, 2), y=torch.tensor([1.0, float("nan"), 0.0]))
    with pytest.raises(ValueError, match="y has NaN or infinite values in 1 of 3 rows, first in"):
        check_finite("it", graph)


def test_one_of_ignores_case_and_names_the_choices() -> None:
    assert one_of("name", "cora", ["Cora", "PubMed"]) == "Cora"
    with pytest.raises(ValueError, match="name: got 'Corra', expected one of Cora, PubMed"):
        one_of("name", "Corra", ["Cora", "PubMed"])


@pytest.mark.parametrize("size", [0, -3])
def test_patches_have_a_side(size: int) -> None:
    check_patch_size(1)
    with pytest.raises(ValueError, match=f"patch_size: got {size}, expected 1 or more"):
        check_patch_size(size)


def test_splits_of_images_have_a_class_for_each() -> None:
    images = torch.zeros(3, 1, 2, 2)
    check_split("train", images, torch.tensor([0, 5, 1]))
    check_split("train", list(images), torch.tensor([0, 5, 1]))
    for labels, message in (
        (torch.tensor([0, 1]), r"labels: got shape \(2,\) for 3 images of the split 'val'"),
        (torch.tensor([[0], [1], [2]]), r"labels: got shape \(3, 1\)"),
        (torch.tensor([0, -7, 1]), "labels: got -7 in the split 'val'"),
    ):
        with pytest.raises(ValueError, match=message):
            check_split("val", images, labels)
    with pytest.raises(ValueError, match="images: got no images in the split 'val'"):
        check_not_empty("val", [])


def test_all_splits_have_the_channels_of_the_training_split() -> None:
    images = {"train": torch.zeros(2, 3, 4, 4), "val": [torch.zeros(1, 4, 4)]}
    check_channels(3, images)
    with pytest.raises(ValueError, match="images: got 1 channels in the split 'test', expected 3"):
        check_channels(3, {**images, "test": torch.zeros(2, 1, 4, 4)})
