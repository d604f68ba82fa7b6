"""PyG's GCN takes batches and adjacencies as our own networks do."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN as PyGGCN

from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.models import gcn
from graphformer.patterns import Complete, Edges


def graphs() -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    return [
        Data(
            x=torch.randn(nodes, 5, generator=generator),
            edge_index=torch.randint(nodes, (2, 3 * nodes), generator=generator),
        )
        for nodes in (7, 11)
    ]


def test_it_is_pygs_own() -> None:
    batch = Batch.from_data_list(graphs())
    network = gcn(5, 3, dim=13, depth=2, dropout=0.5).eval()
    peer = PyGGCN(5, 13, 2, 3)
    peer.load_state_dict(network.layers.state_dict())
    edges = Edges()(batch)
    torch.testing.assert_close(network(batch, edges), peer(batch.x, edges.edge_index))
    assert network(batch, edges).shape == (18, 3)
    sparse = Data(x=SparseFeatures(batch.x))
    torch.testing.assert_close(network(sparse, edges), network(batch, edges))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("pool", [None, "mean", "sum"])
def test_options(norm: str | None, residual: bool, pool: str | None) -> None:
    batch = Batch.from_data_list(graphs())
    network = gcn(5, 3, dim=13, depth=3, norm=norm, residual=residual, pool=pool)
    out = network(batch, Edges()(batch))
    assert out.shape == ((18, 3) if pool is None else (2, 3))
    other = network(batch, Complete()(batch))
    assert not torch.allclose(out, other)
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
