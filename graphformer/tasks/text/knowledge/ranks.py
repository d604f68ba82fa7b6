"""Filtered ranks of true entities among all candidates, and the metrics of link prediction."""

from __future__ import annotations

import torch
from torch import Tensor


def filtered_ranks(scores: Tensor, target: Tensor, known_index: Tensor) -> Tensor:
    """Return the rank of each true answer among the candidates that are not true themselves, [Q].

    Rank 1 is the best. Of c other candidates with an equal score, half count as better, so that
    constant scores have the mean rank. NaN counts as better, so that it gives the last rank.

    Args:
        scores: of E candidates for each of Q queries, higher is better, [Q, E].
        target: the true answer, int64 [Q].
        known_index: pairs (query, candidate) that are other true answers, int64 [2, K].

    Source: Bordes et al., 2013 (TransE), section 4.1, "filt."; ties: Berrendorf et al., 2020.
    """
    true = scores.gather(1, target.unsqueeze(1))
    is_candidate = torch.ones_like(scores, dtype=torch.bool)
    is_candidate[known_index[0], known_index[1]] = False
    is_candidate.scatter_(1, target.unsqueeze(1), False)
    better = (~(scores <= true) & is_candidate).sum(1)
    equal = ((scores == true) & is_candidate).sum(1)
    return 1 + better + equal / 2


def rank_sums(ranks: Tensor, k: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the sums of hits@k and of reciprocal ranks of Q queries, and Q, for `Mean` metrics."""
    count = torch.tensor(len(ranks), device=ranks.device)
    return {f"hits@{k}": ((ranks <= k).float().sum(), count), "mrr": ((1 / ranks).sum(), count)}
