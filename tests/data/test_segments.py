"""`place`: text, images and graphs in one batch."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch as PyGBatch
from torch_geometric.data import Data

import graphformer as gf
from graphformer.data import pack_images, pack_tokens, place
from graphformer.nn import pool
from graphformer.patterns import Between, Causal, Edges, Grid

TEXT = pack_tokens([[5, 6, 7], [8, 9]])
IMAGES = pack_images(torch.rand(2, 1, 4, 6), patch_size=2)
GRAPHS = PyGBatch.from_data_list(
    [
        Data(x=torch.rand(n, 3), edge_index=torch.tensor([[0, 1], [1, 2]]) % n)
        for n in (3, 5)
    ]
)  # fmt: skip


def joint() -> gf.data.Batch:
    return place([TEXT, IMAGES, GRAPHS], [Causal(), Grid(1), Edges()])


def test_the_nodes_of_a_sample_are_those_of_its_segments() -> None:
    batch = joint()
    assert batch.lengths == (3 + 6 + 3, 2 + 6 + 5)
    assert batch.documents == (3, 6, 3, 2, 6, 5)
    rows = [*range(3), *range(5, 11), *range(17, 20)]
    rows += [3, 4, *range(11, 17), *range(20, 25)]
    assert batch.x.tolist() == rows
    assert batch.node_type[:12].tolist() == [0] * 3 + [1] * 6 + [2] * 3


def test_edges_within_segments_are_those_of_their_patterns() -> None:
    batch, mask = joint(), torch.zeros(25, 25, dtype=torch.bool)
    for segment, pattern, start in (
        (TEXT, Causal(), 0),
        (IMAGES, Grid(1), 5),
        (GRAPHS, Edges(), 17),
    ):
        stop = start + segment.num_nodes
        mask[start:stop, start:stop] = pattern(segment).to_mask()
    expected = mask[batch.x][:, batch.x]
    assert torch.equal(Edges()(batch).to_mask(), expected)


def test_a_model_of_all_three_gives_the_segments_apart() -> None:
    torch.manual_seed(0)
    batch, model = joint(), gf.Transformer(dim=14, depth=2, num_heads=2)
    parts = [torch.randn(n, 14) for n in (5, 12, 8)]
    alone = model(parts[0], Causal()(TEXT))
    x = torch.cat(parts)[batch.x]
    together = model(x, Edges()(batch))
    torch.testing.assert_close(together[batch.node_type == 0], alone)
    crossed = model(x, (Edges() | Between(0, 1))(batch))
    assert not torch.allclose(crossed[batch.node_type == 0], alone, atol=1e-3)
    torch.testing.assert_close(crossed[batch.node_type == 2], together[batch.node_type == 2])
    pooled = pool(together, batch.documents, "mean").unflatten(0, (2, 3))
    torch.testing.assert_close(pooled[0, 0], alone[:3].mean(0))


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="adjacencies: got 1 for 2 segments"):
        place([TEXT, IMAGES], [Causal()])
    with pytest.raises(ValueError, match="segments: got batches of 2, 1 samples"):
        place([TEXT, pack_tokens([[1]])], [Causal(), Causal()])
