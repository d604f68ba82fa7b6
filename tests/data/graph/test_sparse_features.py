"""Features that store no zeros against the dense ones."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data

from graphformer.data.graph.sparse_features import SparseFeatures


@pytest.fixture
def dense() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(23, 11) * (torch.rand(23, 11) < 0.2)


def test_they_pass_for_a_dense_tensor(dense: torch.Tensor) -> None:
    x = SparseFeatures(dense)
    assert isinstance(x, torch.Tensor)
    assert x.shape == (23, 11)
    assert torch.equal(x.to_dense(), dense)
    assert torch.equal(x + 1, dense + 1)
    assert torch.equal(x[3:5], dense[3:5])
    assert torch.equal(torch.cat([x, x]), torch.cat([dense, dense]))
    assert torch.equal(x.sum(1), dense.sum(1))
    assert type(x + 1) is torch.Tensor
    graph = Data(x=x, edge_index=torch.tensor([[0], [1]]))
    assert (graph.num_nodes, graph.num_node_features) == (23, 11)
    assert "23" in repr(x)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        lambda x: x.clone(),
        lambda x: x.detach(),
    ],
)
def test_copies_are_of_the_same_kind(dense: torch.Tensor, copied: object) -> None:
    x = copied(SparseFeatures(dense))  # type: ignore[operator]
    assert isinstance(x, SparseFeatures)
    assert torch.equal(x.to_dense(), dense)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_the_dense_one_with_its_gradients(dense: torch.Tensor, bias: bool) -> None:
    linear = nn.Linear(11, 7, bias=bias)
    results = []
    for x in (dense, SparseFeatures(dense)):
        linear.zero_grad()
        out = linear(x)
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in linear.parameters())])
    for sparse, expected in zip(*results, strict=True):
        torch.testing.assert_close(sparse, expected)


def test_rows_by_number_stay_sparse(dense: torch.Tensor) -> None:
    x = SparseFeatures(dense)
    index = torch.tensor([7, 3, 3, -1, 22, 0])
    rows = x[index]
    assert isinstance(rows, SparseFeatures)
    assert torch.equal(rows.to_dense(), dense[index])
    linear = nn.Linear(11, 5)
    torch.testing.assert_close(linear(rows), linear(dense[index]))
    linear(rows).sum().backward()
    torch.testing.assert_close(linear.weight.grad, dense[index].sum(0).expand(5, 11))
    assert x[torch.empty(0, dtype=torch.long)].shape == (0, 11)
    assert torch.equal(x[dense[:, 0] > 0], dense[dense[:, 0] > 0])
    assert torch.equal(x[:, 2], dense[:, 2])


def test_dropout_draws_for_stored_values(dense: torch.Tensor) -> None:
    x = SparseFeatures(torch.ones(101, 103).tril())
    dropped = F.dropout(x, 0.25)
    assert isinstance(dropped, SparseFeatures)
    values = dropped.to_dense()
    assert set(values.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((values > 0).sum() / x.to_dense().sum() - 0.75) < 0.02
    assert not values.triu(1).any()
    assert F.dropout(x, 0.25, training=False) is x
    assert nn.Dropout(0.25).eval()(x) is x


def test_gradients_use_the_values_that_were_kept(dense: torch.Tensor) -> None:
    linear = nn.Linear(11, 7, bias=False)
    dropped = F.dropout(SparseFeatures(dense), 0.5)
    linear(dropped).sum().backward()
    expected = dropped.to_dense().sum(0).expand(7, 11)
    torch.testing.assert_close(linear.weight.grad, expected)


def test_inference_mode_and_training_alternate(dense: torch.Tensor) -> None:
    x, linear = SparseFeatures(dense), nn.Linear(11, 7)
    with torch.inference_mode():
        linear(x)
    linear(x).sum().backward()
    assert linear.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_conversion_keeps_zeros_unstored(dense: torch.Tensor, dtype: torch.dtype) -> None:
    x = SparseFeatures(dense).to(dtype)
    assert isinstance(x, SparseFeatures)
    assert torch.equal(x.to_dense(), dense.to(dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_equals_the_dense_product(dense: torch.Tensor, bias: bool, autocast: bool) -> None:
    dtype = torch.float32 if autocast else torch.bfloat16
    linear = nn.Linear(11, 7, bias=bias).to(dtype)
    results = []
    for x in (dense.to(dtype), SparseFeatures(dense).to(dtype)):
        linear.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = linear(x)
        out.float().square().sum().backward()
        assert out.dtype == torch.bfloat16
        assert linear.weight.grad.dtype == dtype
        results.append((out, linear.weight.grad.clone()))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.02)


def test_torch_compile_leaves_them_to_python():
    torch._dynamo.reset()
    sparse = SparseFeatures(torch.eye(7, 5))
    linear = torch.nn.Linear(5, 3)
    compiled = torch.compile(linear, backend="eager")
    torch.testing.assert_close(compiled(sparse), linear(sparse.to_dense()))
    compiled(sparse).sum().backward()
    torch.testing.assert_close(linear.weight.grad[0], sparse.to_dense().sum(0))
