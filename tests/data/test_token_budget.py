from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.token_budget import TokenBudgetSampler

SIZES = st.lists(st.integers(0, 31), min_size=1, max_size=97)


def epoch(order: TokenBudgetSampler, number: int) -> list[list[int]]:
    order.set_epoch(number)
    return [batch.tolist() for batch in order]


@given(SIZES, st.integers(31, 101), st.booleans(), st.integers(0, 5))
def test_every_sample_comes_once_within_the_budget(
    sizes: list[int], budget: int, shuffle: bool, seed: int
) -> None:
    lengths = np.array(sizes)
    order = TokenBudgetSampler(
        lengths, max_tokens=budget, max_edges=997, shuffle=shuffle, seed=seed
    )
    for number in range(3):
        batches = epoch(order, number)
        assert len(batches) == len(order)
        assert sorted(chain.from_iterable(batches)) == list(range(len(sizes)))
        for batch in batches:
            assert lengths[batch].sum() <= budget
            assert (lengths[batch] ** 2).sum() <= 997


@given(SIZES, st.integers(1, 5))
def test_ranks_share_the_batches_of_one_process(sizes: list[int], world: int) -> None:
    lengths = np.array(sizes)
    one = epoch(TokenBudgetSampler(lengths, max_tokens=61, shuffle=True), 1)
    seen = {}
    for rank in range(world):
        order = TokenBudgetSampler(lengths, max_tokens=61, shuffle=True)
        order.shard(rank, world)
        batches = epoch(order, 1)
        assert len(order) == len(batches) == -(-len(one) // world)
        seen |= {step * world + rank: b for step, b in enumerate(batches[: order.num_filled])}
    assert [seen[number] for number in range(len(one))] == one


def test_order_depends_on_seed_and_epoch_only() -> None:
    lengths = np.arange(53) % 7 + 1
    order, same = (
        TokenBudgetSampler(lengths, max_tokens=23, shuffle=True, seed=3) for _ in range(2)
    )
    other = TokenBudgetSampler(lengths, max_tokens=23, shuffle=True, seed=4)
    first = epoch(order, 0)
    torch.manual_seed(1)
    assert epoch(same, 0) == first
    assert epoch(order, 1) != first
    assert {frozenset(b) for b in epoch(order, 1)} != {frozenset(b) for b in first}
    assert epoch(order, 0) == first
    assert epoch(other, 0) != first


def test_a_resumed_epoch_gives_what_was_left() -> None:
    order = TokenBudgetSampler(np.arange(1, 30), max_tokens=43, shuffle=True)
    whole = epoch(order, 2)
    order.skip(2, 3)
    assert epoch(order, 2) == whole[3:]
    assert epoch(order, 2) == whole


def test_given_edges_count_instead_of_pairs() -> None:
    order = TokenBudgetSampler(np.full(13, 5), edges=np.full(13, 4), max_tokens=997, max_edges=11)
    assert [len(batch) for batch in order] == [2] * 6 + [1]
    starts = [batch[0] for batch in epoch(order, 0)]
    assert all(a < b for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([3, 11], {"max_tokens": 7}, "max_tokens: got 7, but sample 1 has 11 tokens"),
        (
            [3, 5],
            {"max_tokens": 7, "max_edges": 20},
            "max_edges: got 20, but sample 1 has 25 edges",
        ),
        ([], {"max_tokens": 7}, "got no samples"),
    ],
)
def test_impossible_budgets_are_explained(
    sizes: list[int], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBudgetSampler(np.array(sizes, np.int64), **options)
