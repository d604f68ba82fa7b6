"""GCN: equality with PyG, heads, jumping knowledge, the interface of models."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN as PyGGCN

from graphformer.data.graph.sparse_features import SparseFeatures
from graphformer.models import gcn
from graphformer.patterns import Complete, Edges, PerLayer


def graphs() -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    return [
        Data(
            x=torch.randn(nodes, 5, generator=generator),
            edge_index=torch.randint(nodes, (2, 3 * nodes), generator=generator),
        )
        for nodes in (7, 11)
    ]


def test_it_equals_pyg() -> None:
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
@pytest.mark.parametrize("jump", ["last", "cat", "max"])
@pytest.mark.parametrize("pool", [None, "mean", "sum"])
def test_options(norm: str | None, jump: str, pool: str | None) -> None:
    batch = Batch.from_data_list(graphs())
    network = gcn(5, 3, dim=13, depth=3, norm=norm, jump=jump, pool=pool)
    out = network(batch, Edges()(batch))
    assert out.shape == ((18, 3) if pool is None else (2, 3))
    other = network(batch, Complete()(batch))
    assert not torch.allclose(out, other)
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(("residual", "jump"), [(True, "cat"), (False, "last")])
def test_residual_is_the_old_name_of_jumping_knowledge(residual: bool, jump: str) -> None:
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match="residual of gcn is now called jump"):
        old = gcn(5, 3, 13, residual=residual)
    torch.manual_seed(0)
    new = gcn(5, 3, 13, jump=jump)
    assert old.state_dict().keys() == new.state_dict().keys()
    batch = Batch.from_data_list(graphs())
    assert torch.equal(old(batch, Edges()), new(batch, Edges()))
    with pytest.raises(TypeError, match="jump: got residual as well"):
        gcn(5, 3, residual=residual, jump=jump)


def test_its_layers_share_one_adjacency() -> None:
    batch = Batch.from_data_list(graphs())
    network = gcn(5, 3).eval()
    assert network.depth == 1
    single = network.with_adjacency(PerLayer((Edges(),)))
    torch.testing.assert_close(single(batch), network(batch, Edges()))
    with pytest.raises(ValueError, match="adjacency: got 2, one for each layer, expected a single"):
        network(batch, [Edges(), Complete()])


def test_an_unknown_jump_is_refused() -> None:
    with pytest.raises(ValueError, match="jump: got 'lstm', expected 'last', 'cat' or 'max'"):
        gcn(5, 3, jump="lstm")  # type: ignore[arg-type]
