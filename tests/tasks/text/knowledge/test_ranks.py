from __future__ import annotations

import torch

from graphformer.tasks.text.knowledge.ranks import filtered_ranks, rank_sums


def test_ranks_leave_out_other_true_answers() -> None:
    scores = torch.tensor([[5.0, 9.0, 7.0, 1.0, 6.0], [2.0, 2.0, 3.0, 2.0, 0.0]])
    target = torch.tensor([0, 1])
    none = torch.zeros(2, 0, dtype=torch.int64)
    # 9, 7 and 6 are better than 5; of the second query 3 is better than 2, which two others equal
    assert filtered_ranks(scores, target, none).tolist() == [4.0, 3.0]
    known = torch.tensor([[0, 0, 1], [1, 4, 3]])
    assert filtered_ranks(scores, target, known).tolist() == [2.0, 2.5]


def test_constant_scores_have_the_mean_rank() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert filtered_ranks(torch.zeros(1, 7), torch.tensor([3]), none).tolist() == [4.0]


def test_scores_that_are_not_numbers_give_the_last_rank() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    nan = torch.nan
    scores = torch.tensor([[nan, nan, nan], [1.0, nan, 0.0], [nan, 1.0, 0.0]])
    assert filtered_ranks(scores, torch.zeros(3, dtype=torch.int64), none).tolist() == [3, 2, 3]


def test_sums_of_hits_and_reciprocal_ranks() -> None:
    sums = rank_sums(torch.tensor([1.0, 4.0, 2.0]), k=2)
    assert {name: (a.item(), b.item()) for name, (a, b) in sums.items()} == {
        "hits@2": (2.0, 3), "mrr": (1.75, 3)
    }  # fmt: skip
