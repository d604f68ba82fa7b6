"""Samples of different lengths, picked by index and packed: labels, edges, pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from graphformer.data.ragged import Ragged, RaggedPairs

ROWS = [np.array(row) for row in ([2, 3, 5], [], [7], [11, 13])]
ALL = torch.arange(4)


def test_a_batch_has_the_chosen_samples_in_the_chosen_order() -> None:
    samples = Ragged(ROWS)
    batch = samples[torch.tensor([3, 1, 0, 3])]
    assert batch.x.tolist() == [11, 13, 2, 3, 5, 11, 13]
    assert batch.pos.tolist() == [0, 1, 0, 1, 2, 0, 1]
    assert batch.lengths == (2, 0, 3, 2)
    assert len(samples) == 4
    assert "y" not in batch
    assert "edge_index" not in batch


def test_labels_of_samples_and_of_nodes() -> None:
    assert Ragged(ROWS, [17, 19, 23, 29])[torch.tensor([2, 0])].y.tolist() == [23, 17]
    of_nodes = Ragged(ROWS, [10 * row for row in ROWS])
    assert of_nodes[torch.tensor([2, 0])].y.tolist() == [70, 20, 30, 50]


def test_features_are_rows() -> None:
    features = [np.arange(6).reshape(3, 2), np.arange(2).reshape(1, 2) + 41]
    assert Ragged(features)[torch.tensor([1, 0])].x.tolist() == [[41, 42], [0, 1], [2, 3], [4, 5]]


def test_edges_are_shifted_to_the_nodes_of_the_batch() -> None:
    edges = [np.array([[0, 1], [2, 0]]), np.zeros((2, 0), int), np.array([[0], [0]]),
             np.array([[1], [0]])]  # fmt: skip
    samples = Ragged(ROWS, edges=edges)
    assert samples.num_edges is not None
    assert samples.num_edges.tolist() == [2, 0, 1, 1]
    assert samples[torch.tensor([3, 1, 0])].edge_index.tolist() == [[1, 2, 3], [0, 4, 2]]


@pytest.mark.parametrize("index", [ALL, torch.tensor([], dtype=torch.int64)])
def test_no_samples(index: Tensor) -> None:
    samples = Ragged([], [], [])
    assert len(samples) == 0
    batch = Ragged(ROWS)[index[:0]]
    assert batch.x.shape == (0,)
    assert batch.lengths == ()


def test_pairs_are_shifted_by_the_first_and_last_token() -> None:
    pairs = RaggedPairs(ROWS, ROWS[::-1], start=31, end=37)
    batch = pairs[torch.tensor([0, 1])]
    assert batch.source.tolist() == [2, 3, 5]
    assert batch.source_lengths == (3, 0)
    assert batch.source_pos.tolist() == [0, 1, 2]
    assert batch.x.tolist() == [31, 11, 13, 31, 7]
    assert batch.y.tolist() == [11, 13, 37, 7, 37]
    assert batch.lengths == (3, 2)
    assert pairs.lengths.tolist() == [6, 2, 2, 6]  # both sides, with one token of either end
    assert len(pairs) == 4
