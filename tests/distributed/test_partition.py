"""A graph divided among 2 and 4 processes trains as in one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
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
from graphformer.cli.predictions import GatherPredictions
from graphformer.data import MemoryMappedGraph, convert_arrays
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.graph.out_of_core.folder import GraphFolder
from graphformer.data.graph.out_of_core.reorder import reorder_graph
from graphformer.data.graph.out_of_core.stores import stored_adjacency
from graphformer.data.loader import process_ranks
from graphformer.distributed import DataParallel, Partitioned, PartitionedGraph
from graphformer.distributed.partition import divide_nodes, order_nodes, partition_graph
from graphformer.distributed.stored_part import equal_ranges, read_part
from graphformer.patterns import Complete, Edges, Pattern


class Graph(FullGraph):
    """A random graph with features of edges; some edges are repeated."""

    def read(self) -> Data:
        graph = random_graph(61, 397)
        edges = graph.edge_index.unique(dim=1)
        values = torch.randn(edges.shape[1], 3, generator=torch.Generator().manual_seed(7))
        graph.edge_index = torch.cat([edges, edges[:, 5:22]], dim=1)
        graph.edge_attr = torch.cat([values, values[5:22]])
        return graph


def store(graph: Data, folder: Path) -> MemoryMappedGraph:
    """Write a graph to a folder with its nodes in an order that keeps neighbours close."""
    given = {name: graph[name].numpy() for name in ("x", "y", "edge_index", "edge_attr")}
    splits = {split: graph[f"{split}_mask"].numpy() for split in ("train", "val", "test")}
    written = convert_arrays(folder / "written", **given, splits=splits)
    order = order_nodes(stored_adjacency(written))
    return reorder_graph(written, folder / "graph", order)


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


def fit(
    name: str, folder: str | None = None, *, divided: bool = True, graph: type[FullGraph] = Graph
) -> dict[str, Any]:
    """Train on a graph, its parts, or the parts of a stored graph."""
    model, pattern = network(name)
    pattern = Edges() if folder is not None and pattern == Complete() else pattern
    source = graph() if folder is None or not divided else GraphFolder(folder)
    data = PartitionedGraph(source, pattern) if divided else source
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


def all_fits(folder: str | None = None) -> dict[str, dict[str, Any]]:
    return {name: fit(name, folder) for name in NAMES}


def check(ranks: list[dict[str, Any]], wholes: dict[str, Any], largest: float) -> None:
    """Compare the ranks with one another, and with one process."""
    for name, whole in wholes.items():
        parts = [results[name] for results in ranks]
        assert sum(part["nodes"] for part in parts) == whole["nodes"]
        assert max(part["nodes"] for part in parts) <= whole["nodes"] * largest
        for part in parts:
            assert torch.equal(part["weights"], parts[0]["weights"]), name
            torch.testing.assert_close(
                part["weights"], whole["weights"], rtol=0, atol=1e-6, msg=name
            )
            assert part["metrics"] == pytest.approx(whole["metrics"], abs=1e-6), name


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_with_a_part_each_train_as_one(world_size: int):
    ranks = run_ranks(all_fits, world_size)
    check(ranks, {name: fit(name, divided=False) for name in NAMES}, 1.5 / world_size)


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_parts_of_a_stored_graph_train_as_one(world_size: int, tmp_path: Path):
    graph = store(Graph().read(), tmp_path)
    ranks = run_ranks(all_fits, world_size, str(graph.folder))
    wholes = {name: fit(name, str(graph.folder), divided=False) for name in NAMES}
    check(ranks, wholes, 1.5 / world_size)


class Star(FullGraph):
    """A graph whose edges all lead to the last node."""

    def read(self) -> Data:
        graph = Graph().read()
        graph.edge_index[1] = 60
        graph.edge_attr = torch.zeros_like(graph.edge_attr)  # many edges are repeated
        return graph


def star_fits(folder: str | None) -> dict[str, dict[str, Any]]:
    return {name: fit(name, folder, graph=Star) for name in NAMES}


@pytest.mark.parametrize("stored", [False, True])
def test_a_rank_without_nodes(stored: bool, tmp_path: Path):
    folder = None
    if stored:
        graph = Star().read()
        order = torch.cat([torch.randperm(60), torch.tensor([60])])
        store(graph, tmp_path)
        written = MemoryMappedGraph(tmp_path / "written")
        folder = str(reorder_graph(written, tmp_path / "star", order).folder)
    ranks = run_ranks(star_fits, 3, folder)
    if stored:
        assert [results["gat"]["nodes"] for results in ranks] == [61, 0, 0]
    wholes = {name: fit(name, folder, divided=False, graph=Star) for name in NAMES}
    check(ranks, wholes, 1.0)


def test_ranges_have_about_equal_work():
    degree = torch.randint(0, 17, (211,), generator=torch.Generator().manual_seed(0))
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
    for parts in (1, 2, 5):
        bounds = equal_ranges(indptr, parts)
        assert bounds[0] == 0
        assert bounds[-1] == 211
        work = (indptr + torch.arange(212))[bounds].diff()
        assert work.max() - work.min() <= 2 * 17
    assert equal_ranges(torch.tensor([0, 0, 50]), 3).tolist() == [0, 2, 2, 2]


def test_a_stored_graph_in_another_order(tmp_path: Path):
    graph = store(Graph().read(), tmp_path)
    before = MemoryMappedGraph(tmp_path / "written")
    names = graph.node_names
    assert names is not None
    old = torch.tensor([int(name) for name in names.read(torch.arange(61))])
    for name in ("x", "y"):
        found = graph.get_tensor(None, name, index=None)
        assert torch.equal(found, before.get_tensor(None, name, index=old))
    for split in ("train", "val", "test"):
        assert torch.equal(old[graph.split_nodes(split)].sort().values, before.split_nodes(split))

    def edges(graph: MemoryMappedGraph, numbers: torch.Tensor) -> set[tuple[float, ...]]:
        sources, targets = stored_adjacency(graph).edge_index
        values = graph.get_tensor(None, "edge_attr", index=None)
        rows = torch.cat([torch.stack([numbers[sources], numbers[targets]], 1), values], 1)
        return set(map(tuple, rows.tolist()))

    assert edges(graph, old) == edges(before, torch.arange(61))
    with pytest.raises(ValueError, match="order: got 61 nodes, expected each from 0 to 60 once"):
        reorder_graph(before, tmp_path / "other", old.clamp(max=59))


def predictions(folder: str | None) -> list[tuple[int, torch.Tensor]]:
    """Return the rows of the test nodes that the command would write, in the first process."""
    model, pattern = network("gat")
    found: list[tuple[int, torch.Tensor]] = []
    gather = GatherPredictions(
        lambda rows: found.extend((int(row.nodes), row.output[0]) for row in rows), "test"
    )
    whole = Graph() if folder is None else GraphFolder(folder)
    task = tasks.Classification(model, Partitioned(), num_classes=3, level="node")
    world_size = process_ranks()[1]
    options = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    predicting = trainer(callbacks=[gather], **options)
    predicting.predict(task, datamodule=PartitionedGraph(whole, pattern), return_predictions=False)
    return found


@pytest.mark.parametrize("stored", [False, True])
def test_predictions_of_all_parts_are_in_the_order_of_the_nodes(stored: bool, tmp_path: Path):
    folder = str(store(Graph().read(), tmp_path).folder) if stored else None
    first, second = run_ranks(predictions, 2, folder)
    assert second == []
    expected = predictions(folder)
    assert [node for node, _ in first] == [node for node, _ in expected]
    assert len(first) > 2
    for (_, own), (_, other) in zip(first, expected, strict=True):
        torch.testing.assert_close(own, other)


def test_other_patterns_of_a_stored_graph_are_refused(tmp_path: Path):
    graph = store(Graph().read(), tmp_path)
    for pattern in (Complete(), Edges(undirected=True)):
        with pytest.raises(ValueError, match=r"adjacency: got .*, expected Edges\(\) or Edges"):
            read_part(graph, pattern, DataParallel())


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


def test_metis_cuts_fewer_edges_than_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymetis")
    side = 23
    shuffled = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))
    source, target = shuffled[gf.grid((side, side), 1).edge_index]
    adjacency = gf.from_edge_index(torch.stack([source, target]), side * side)
    cuts = []
    for found in (find_spec, lambda name: None):
        monkeypatch.setattr("graphformer.distributed.partition.find_spec", found)
        owner = divide_nodes(adjacency, 4)
        assert torch.bincount(owner).tolist() == pytest.approx([side * side / 4] * 4, rel=0.1)
        cuts.append(int((owner[source] != owner[target]).sum()))
    assert cuts[0] < cuts[1]


def test_a_batch_that_is_no_part_is_refused():
    with pytest.raises(ValueError, match="adjacency: got Partitioned for a batch of 31 nodes"):
        Partitioned()(random_graph(31, 97))
