"""A graph divided among 2 and 4 processes trains as in one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.graphs import random_graph
from helpers.processes import run_ranks
from helpers.tasks import trainer
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch_geometric.data import Data

import graphformer as gf
from graphformer import models, tasks
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.loader import process_ranks
from graphformer.distributed import DataParallel, Partitioned, PartitionedGraph
from graphformer.distributed.partition import divide_nodes, partition_graph
from graphformer.patterns import Complete, Edges, Pattern


class Graph(FullGraph):
    """A random graph with features of edges."""

    def read(self) -> Data:
        graph = random_graph(61, 397)
        graph.edge_index = graph.edge_index.unique(dim=1)
        edges = graph.edge_index.shape[1]
        graph.edge_attr = torch.randn(edges, 3, generator=torch.Generator().manual_seed(7))
        return graph


def network(name: str) -> tuple[nn.Module, Pattern]:
    torch.manual_seed(0)
    if name == "gat":
        return models.gat(5, 3, dim=3, num_heads=2, dropout=0.0), Edges(self_loops=True)
    if name == "graph transformer":
        model = models.graph_transformer(5, 3, dim=12, num_heads=2, num_edge_features=3)
        return model, Edges()
    options: dict[str, Any] = {"dim": 12, "depth": 2, "num_heads": 2, "attention_dropout": 0.0}
    return models.gps(5, 3, num_edge_features=3, **options), Complete()


NAMES = ("gat", "graph transformer", "gps")


def fit(name: str, *, divided: bool = True) -> dict[str, Any]:
    model, pattern = network(name)
    data = PartitionedGraph(Graph(), pattern) if divided else Graph()
    adjacency = Partitioned() if divided else pattern
    task = tasks.Classification(
        model, adjacency, num_classes=3, level="node", lr=1e-2, metrics=("accuracy", "auroc")
    )
    world_size = process_ranks()[1]
    options = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    fitted = trainer(max_epochs=3, precision="64-true", **options)
    fitted.fit(task, datamodule=data)
    metrics = {name: float(value) for name, value in fitted.callback_metrics.items()}
    buffers = [b.double().flatten() for b in task.network.buffers()]
    sizes = next(iter(data.batches("train"))).x.shape[0]
    vector = torch.cat([parameters_to_vector(task.parameters()).detach(), *buffers])
    return {"weights": vector, "metrics": metrics, "nodes": sizes}


def all_fits() -> dict[str, dict[str, Any]]:
    return {name: fit(name) for name in NAMES}


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_with_a_part_each_train_as_one(world_size: int):
    ranks = run_ranks(all_fits, world_size)
    for name in NAMES:
        whole = fit(name, divided=False)
        parts = [results[name] for results in ranks]
        assert sum(part["nodes"] for part in parts) == whole["nodes"]
        assert max(part["nodes"] for part in parts) < whole["nodes"] * 1.5 / world_size
        for part in parts:
            assert torch.equal(part["weights"], parts[0]["weights"]), name
            torch.testing.assert_close(
                part["weights"], whole["weights"], rtol=0, atol=1e-6, msg=name
            )
            assert part["metrics"] == pytest.approx(whole["metrics"], abs=1e-6), name


def test_one_process_has_the_whole_graph():
    one, whole = fit("gat"), fit("gat", divided=False)
    torch.testing.assert_close(one["weights"], whole["weights"])


def test_rows_of_a_rank_are_those_of_the_whole_adjacency():
    graph = random_graph(31, 97)
    adjacency = gf.from_edge_index(graph.edge_index, 31)
    part = partition_graph(graph, adjacency, torch.zeros(31, dtype=torch.int64), DataParallel())
    assert torch.equal(part.partition.to_mask(), adjacency.to_mask())
    assert torch.equal(part.nodes, torch.arange(31))
    assert part.partition.gather_sources(part.x) is None


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_have_about_equal_work_and_few_edges_between_them(parts: int):
    nodes = 211
    shuffled = torch.randperm(nodes, generator=torch.Generator().manual_seed(0))
    ring = torch.stack([shuffled, shuffled.roll(1)])
    adjacency = gf.from_edge_index(torch.cat([ring, ring.flip(0)], 1), nodes)
    owner = divide_nodes(adjacency, parts)
    assert owner.shape == (nodes,)
    counts = torch.bincount(owner, minlength=parts)
    assert counts.min() > 0.8 * nodes / parts
    source, target = adjacency.edge_index
    assert int((owner[source] != owner[target]).sum()) <= 8 * parts


def test_a_batch_that_is_no_part_is_refused():
    with pytest.raises(ValueError, match="adjacency: got Partitioned for a batch of 31 nodes"):
        Partitioned()(random_graph(31, 97))
