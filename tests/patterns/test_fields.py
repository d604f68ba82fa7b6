"""Sizes of samples, devices and required fields of batches."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch_geometric.data import Batch as PygBatch
from torch_geometric.data import Data, HeteroData

import graphformer as gf
from graphformer import patterns
from graphformer.patterns import VirtualNode, lengths
from graphformer.patterns.fields import (
    Layout,
    device_of,
    require_field,
    require_tensor,
    sample_layout,
)


def graphs() -> PygBatch:
    """Graphs of 2, 5 and 3 nodes."""
    return PygBatch.from_data_list(
        [Data(x=torch.ones(n, 1), edge_index=torch.tensor([[0], [1]])) for n in (2, 5, 3)]
    )


def test_lengths_from_each_source():
    assert lengths(graphs()) == (2, 5, 3)
    assert lengths(Data(x=torch.ones(7, 1), lengths=torch.tensor([3, 4]))) == (3, 4)
    assert lengths(Data(x=torch.ones(7, 1))) == (7,)
    assert lengths(Layout((5, 0, 2))) == (5, 0, 2)
    assert Layout((5, 0, 2)).num_nodes == 7


def test_a_batch_vector_without_ptr_means_several_samples():
    batch = Data(x=torch.ones(10, 1), batch=graphs().batch)
    assert lengths(batch) == (2, 5, 3)
    assert patterns.Complete()(batch).num_edges == 4 + 25 + 9
    assert lengths(Data(x=torch.ones(2, 1), batch=torch.tensor([1, 1]))) == (0, 2)


def test_an_outdated_ptr_is_ignored():
    part = graphs().subgraph(torch.tensor([1, 1, 0, 0, 0, 0, 0, 1, 0, 0], dtype=torch.bool))
    assert part.ptr.tolist() == [0, 2, 7, 10], "PyG leaves it"
    assert lengths(part) == (2, 0, 1)
    assert patterns.Causal()(part) == gf.causal((2, 0, 1))
    del part.batch
    with pytest.raises(ValueError, match="batch.ptr: got samples of 10 nodes in all, expected 3"):
        lengths(part)


INTERLEAVED = torch.tensor([0, 1, 0, 1, 2, 0])


@pytest.mark.parametrize(
    "pattern",
    [
        patterns.Complete(),
        patterns.Causal(),
        patterns.Window(1),
        patterns.SelfLoops(),
        patterns.Expander(2),
        patterns.Random(1),
        patterns.Dilated(1, 2),
        patterns.GlobalNodes(1),
        patterns.Offsets((-1, 2)),
        VirtualNode(),
        patterns.PerHead((patterns.Complete(), patterns.Window(0))),
        patterns.Complete() & patterns.Window(1),
    ],
    ids=str,
)
def test_samples_whose_nodes_are_interleaved(pattern: patterns.Pattern):
    virtual = torch.tensor([1, 0, 0, 1, 0, 1], dtype=torch.bool)
    batch = Data(x=torch.ones(6, 1), batch=INTERLEAVED, virtual_mask=virtual)
    order = INTERLEAVED.argsort(stable=True)
    sorted_batch = Data(x=torch.ones(6, 1), batch=INTERLEAVED[order], virtual_mask=virtual[order])
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[order.unsqueeze(1), order] = pattern(sorted_batch).to_mask()
    assert torch.equal(pattern(batch).to_mask(), expected)
    assert not expected[INTERLEAVED.unsqueeze(1) != INTERLEAVED].any()


def test_lengths_of_interleaved_samples_are_refused():
    batch = Data(x=torch.ones(6, 1), batch=INTERLEAVED)
    with pytest.raises(ValueError, match=r"batch\.batch: got samples whose nodes are interleaved"):
        lengths(batch)
    sizes, order = sample_layout(batch)
    assert sizes == (3, 2, 1)
    assert order is not None
    assert order.tolist() == [0, 2, 5, 1, 3, 4]


def test_homogeneous_graphs_of_several_node_types():
    graph = HeteroData()
    graph["a"].x, graph["b"].x = torch.ones(3, 2), torch.ones(2, 2)
    graph["a", "to", "b"].edge_index = torch.tensor([[0, 1], [0, 1]])
    batch = PygBatch.from_data_list([graph, graph.clone()]).to_homogeneous()
    source, target = patterns.Complete()(batch).edge_index
    assert len(source) == 2 * 5 * 5
    assert torch.equal(batch.batch[source], batch.batch[target])


def test_device_of():
    assert device_of(Layout((3,), torch.device("meta"))).type == "meta"
    assert device_of(Data(pos=torch.empty(3, device="meta"))).type == "meta"
    assert device_of(Data(num_nodes=3)).type == "cpu"


def test_required_fields():
    batch = Data(x=torch.ones(3, 2), shapes=((1, 3),))
    assert require_tensor(batch, "x", "never") is batch.x
    assert require_field(batch, "shapes", "never") == ((1, 3),)
    with pytest.raises(
        ValueError, match=r"^batch\.pos: got None, expected a value; Grid reads it$"
    ):
        require_field(batch, "pos", "Grid reads it")
    with pytest.raises(ValueError, match=r"^batch\.shapes: got tuple, expected a tensor; why$"):
        require_tensor(batch, "shapes", "why")
    with pytest.raises(ValueError, match=r"None, .* pass batch\.to_homogeneous\(\)"):
        require_tensor(HeteroData(), "edge_index", "why")


def test_importing_patterns_does_not_import_pyg():
    code = "import sys, graphformer.patterns; assert 'torch_geometric' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
