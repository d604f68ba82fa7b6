"""Encodings by name, and what the embedding of graphs makes of them."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from graphformer.nn import GraphEmbedding
from graphformer.nn.encodings import parse_encodings

LENGTHS = (3, 5)


def batch(**fields):
    return Data(x=torch.randn(8, 7), lengths=LENGTHS, num_nodes=8, **fields)


def test_names():
    assert parse_encodings(None) == {}
    assert parse_encodings(["laplacian:8", "degree:64", "virtual_node"]) == {
        "laplacian": 8,
        "degree": 64,
        "virtual_node": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("laplace:8", "encodings: got 'laplace', expected one of laplacian, random_walk"),
        ("laplacian", "got 'laplacian', expected a number above 0, such as 'laplacian:8'"),
        ("random_walk:0", "expected a number above 0"),
        ("random_walk:-3", "expected a number above 0"),
        ("degree:many", "expected a number above 0"),
        ("virtual_node:2", "expected one virtual node per graph"),
    ],
)
def test_invalid_names_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_encodings([text])


def test_repeated_names_are_refused():
    with pytest.raises(ValueError, match="got 'degree' twice"):
        parse_encodings(["degree:3", "degree:5"])


def test_the_embedding_is_the_sum_of_its_parts():
    encodings = ["laplacian:4", "random_walk:6", "degree:2", "virtual_node", "shortest_path:3"]
    embedding = GraphEmbedding(7, 11, encodings=encodings, num_node_types=3).eval()
    torch.nn.init.normal_(embedding.virtual_node)
    mask = torch.zeros(8, dtype=torch.bool)
    mask[2] = True
    data = batch(
        laplacian_pe=torch.randn(8, 4),
        random_walk_pe=torch.rand(8, 6),
        in_degree=torch.tensor([0, 1, 2, 3, 9, 1, 0, 0]),
        out_degree=torch.tensor([1, 1, 5, 0, 0, 0, 2, 2]),
        node_type=torch.randint(3, (8,)),
        virtual_mask=mask,
    )
    expected = (
        embedding.features(data.x)
        + embedding.laplacian(data.laplacian_pe)
        + embedding.random_walk(data.random_walk_pe)
        + embedding.in_degree.weight[[0, 1, 2, 2, 2, 1, 0, 0]]
        + embedding.out_degree.weight[[1, 1, 2, 0, 0, 0, 2, 2]]
        + embedding.types.weight[data.node_type]
    )
    expected[2] += embedding.virtual_node
    torch.testing.assert_close(embedding(data), expected)


def test_signs_are_random_per_sample_in_training_only():
    torch.manual_seed(0)
    embedding = GraphEmbedding(7, 3, encodings=["laplacian:3"])
    with torch.no_grad():
        embedding.features.weight.zero_()
        embedding.features.bias.zero_()
        embedding.laplacian.weight.copy_(torch.eye(3))
        embedding.laplacian.bias.zero_()
    data = batch(laplacian_pe=torch.rand(8, 3) + 1)
    seen = set()
    for _ in range(900):
        signs = (embedding(data) / data.laplacian_pe).round()
        for sample in signs.split(LENGTHS):
            assert (sample == sample[0]).all(), "one sign for a sample and a vector"
        seen.add(tuple(signs[[0, -1]].flatten().tolist()))
    assert len(seen) == 2 ** (2 * 3), "all combinations come up"
    embedding.eval()
    assert torch.equal(embedding(data), data.laplacian_pe)


def test_errors_name_absent_fields():
    for encoding, name in [
        ("laplacian:4", "laplacian_pe"),
        ("random_walk:4", "random_walk_pe"),
        ("degree:4", "in_degree"),
        ("virtual_node", "virtual_mask"),
    ]:
        embedding = GraphEmbedding(7, 3, encodings=[encoding])
        with pytest.raises(ValueError, match=rf"batch\.{name}: got None, expected a tensor; add"):
            embedding(batch())
    embedding = GraphEmbedding(7, 3, encodings=["laplacian:4"])
    with pytest.raises(ValueError, match="got 5 columns, expected 4"):
        embedding(batch(laplacian_pe=torch.randn(8, 5)))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"x": None}, ValueError, r"batch\.x: got None, expected a tensor; the model reads"),
        ({"x": torch.ones(8, 5)}, ValueError, r"batch\.x: got shape \(8, 5\), expected \[N, 7\]"),
        (
            {"x": torch.ones(8, 7).long()},
            ValueError,
            r"got torch\.int64, expected floats",
        ),
        ({"node_type": torch.arange(8)}, IndexError, "got a type 7, .* num_node_types=3"),
    ],
)
def test_features_and_types_that_do_not_fit(fields, error, message):
    embedding = GraphEmbedding(7, 3, num_node_types=3)
    data = batch(node_type=torch.zeros(8, dtype=torch.int64))
    data.update(fields)
    with pytest.raises(error, match=message):
        embedding(data)
