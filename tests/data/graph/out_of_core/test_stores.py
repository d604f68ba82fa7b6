"""Stored graphs against the same graph in memory: PyG's interfaces, samples and batches."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_graphs import arrays, store
from torch_geometric.data import Data

import graphformer as gf
from graphformer.data import MemoryMappedGraph, MissingDataError, convert_arrays
from graphformer.data.graph.out_of_core.stores import stored_adjacency
from graphformer.data.graph.sampling import extract_subgraph, sample_neighbors


def test_fields_and_edges_are_read_by_the_interfaces_of_pyg(tmp_path: Path) -> None:
    given = arrays()
    graph = store(tmp_path / "graph", given)
    assert (graph.num_nodes, graph.num_edges) == (211, given["edge_index"].shape[1])
    assert (graph.num_features, graph.num_classes) == (5, 3)
    nodes = torch.tensor([7, 3, 7])
    assert torch.equal(graph.get_tensor(None, "x", index=nodes), given["x"][nodes])
    assert torch.equal(graph.get_tensor(None, "y", index=slice(2, 9)), given["y"][2:9])
    assert graph.get_tensor_size(None, "x") == (211, 5)
    assert [attribute.attr_name for attribute in graph.get_all_tensor_attrs()] == [
        "x", "y", "edge_attr"
    ]  # fmt: skip
    sources, indptr = graph.get_edge_index(None, "csc")
    expected = gf.from_edge_index(given["edge_index"], 211, coalesce=False)
    assert torch.equal(sources, expected.indices)
    assert torch.equal(indptr, expected.indptr)
    assert expected.edge_ids is not None
    attributes = graph.get_tensor(None, "edge_attr", index=None)
    assert torch.equal(attributes, given["edge_attr"][expected.edge_ids])
    with pytest.raises(KeyError, match="not found"):
        graph.get_edge_index(None, "coo")
    with pytest.raises(TypeError, match="a stored graph, which is read-only; write another one"):
        graph.put_tensor(torch.ones(211), None, "z", None)


def test_samples_are_those_of_the_graph_in_memory(tmp_path: Path) -> None:
    given = arrays()
    graph = store(tmp_path / "graph", given)
    in_memory = Data(**given)
    adjacency = gf.from_edge_index(given["edge_index"], 211, coalesce=False)
    stored = stored_adjacency(graph)
    assert stored.is_coalesced == adjacency.is_coalesced
    seeds = torch.tensor([5, 100, 17])
    for disjoint in (False, True):
        batches = [
            extract_subgraph(
                data, edges, sample_neighbors(edges, seeds, [3, -1], disjoint=disjoint)
            )
            for data, edges in ((in_memory, adjacency), (graph, stored))
        ]
        for name in ("x", "y", "edge_index", "edge_attr", "n_id"):
            assert torch.equal(batches[0][name], batches[1][name]), name


def test_features_of_half_precision_are_widened_in_batches(tmp_path: Path) -> None:
    given = arrays()
    given["x"], given["y"] = given["x"].half(), given["y"].to(torch.int16)
    graph = store(tmp_path / "graph", given)
    assert graph.get_tensor(None, "x", index=None).dtype == torch.float16
    adjacency = stored_adjacency(graph)
    batch = extract_subgraph(graph, adjacency, sample_neighbors(adjacency, torch.arange(7), [2]))
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, given["x"][batch.n_id].float())
    assert torch.equal(batch.y, given["y"][batch.n_id].long())


def test_another_process_maps_the_files_itself(tmp_path: Path) -> None:
    graph = store(tmp_path / "graph", arrays())
    content = pickle.dumps(graph)
    assert len(content) < 1000, "no data"
    assert torch.equal(
        pickle.loads(content).get_tensor(None, "x", index=None),
        graph.get_tensor(None, "x", index=None),
    )


def test_a_graph_without_edges_has_rows(tmp_path: Path) -> None:
    edges = np.empty((2, 0), np.int64)
    x, y = np.ones((11, 2), np.float32), np.arange(11) % 2
    graph = convert_arrays(tmp_path / "graph", edge_index=edges, x=x, y=y)
    assert stored_adjacency(graph).num_edges == 0
    assert graph.get_edge_index(None, "csc")[1].tolist() == [0] * 12


def test_a_folder_without_a_graph_and_a_missing_split_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="got no file graph.json, expected the folder of a"):
        MemoryMappedGraph(tmp_path)
    graph = store(tmp_path / "graph", arrays())
    with pytest.raises(ValueError, match="split: got 'valid', expected one of train, val, test"):
        graph.split_nodes("valid")
