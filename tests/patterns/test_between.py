"""`Between`: edges between the types of nodes within each sample."""

from __future__ import annotations

import pytest
import torch

from graphformer.batch_type import Batch
from graphformer.patterns import Between

TYPES = torch.tensor([1, 0, 1, 0, 0, 1, 2])
LENGTHS = (3, 0, 4)


def expected(types: torch.Tensor, sample: torch.Tensor, target: int, source: int) -> torch.Tensor:
    same = sample[:, None] == sample[None]
    return same & (types == target)[:, None] & (types == source)[None]


@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (1, 1), (2, 0), (3, 0)])
def test_all_pairs_of_both_types_of_a_sample(pair: tuple[int, int]) -> None:
    sample = torch.tensor([0, 0, 0, 2, 2, 2, 2])
    batch = Batch(x=torch.zeros(7, 1), node_type=TYPES, lengths=LENGTHS)
    assert torch.equal(Between(*pair)(batch).to_mask(), expected(TYPES, sample, *pair))


def test_samples_whose_nodes_are_interleaved() -> None:
    sample = torch.tensor([1, 0, 1, 0, 0, 1, 1])
    batch = Batch(x=torch.zeros(7, 1), node_type=TYPES, batch=sample)
    assert torch.equal(Between(0, 1)(batch).to_mask(), expected(TYPES, sample, 0, 1))


def test_a_batch_without_types_is_refused() -> None:
    with pytest.raises(ValueError, match="node_type"):
        Between(0, 1)(Batch(x=torch.zeros(7, 1)))
