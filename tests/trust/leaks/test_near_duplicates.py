"""The most similar pairs of samples, by hand; planted near-duplicates of texts."""

from __future__ import annotations

import pytest
import torch

from graphformer.trust.leaks.near_duplicates import nearest


def test_texts_by_shared_shingles():
    first = [
        torch.tensor([1, 2, 3, 4, 5]),
        torch.tensor([7, 7]),
        torch.tensor([], dtype=torch.long),
    ]
    second = [torch.tensor([2, 3, 4, 5, 6]), torch.tensor([7, 7]), torch.tensor([9, 8, 7, 6])]
    similarity, index = nearest(first, second)
    # {123, 234, 345} and {234, 345, 456} share 2 of 4.
    assert similarity.tolist() == [0.5, 1, 0]
    assert index[:2].tolist() == [0, 1]


def test_features_by_their_direction_from_the_mean():
    generator = torch.Generator().manual_seed(0)
    first = list(torch.randn(11, 5, 3, generator=generator))
    mean = torch.stack(first).mean(0)
    second = [mean + 2 * (first[7] - mean), torch.randn(5, 3, generator=generator)]
    similarity, index = nearest(first, second)
    assert index[0] == 7
    assert similarity[0] == pytest.approx(1, abs=1e-5)
    assert similarity[1] < 0.9


def test_features_of_several_shapes_are_not_compared():
    assert nearest([torch.ones(2, 3)], [torch.ones(5, 3)]) is None
