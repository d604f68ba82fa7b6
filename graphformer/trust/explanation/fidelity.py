"""How good an explanation is: fidelity plus and minus, and the agreement of two explanations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphformer.trust.explanation.attribution import Score


def top_nodes(attribution: Tensor, lengths: Sequence[int], share: float) -> Tensor:
    """Return which nodes have the highest attribution of their sample, bool [N].

    Args:
        attribution: [N].
        lengths: number of nodes of each sample.
        share: of the nodes of each sample; at least one node.
    """
    parts = []
    for part in attribution.split(list(lengths)):
        chosen = torch.zeros(len(part), dtype=torch.bool)
        if len(part):
            chosen[part.topk(max(round(share * len(part)), 1)).indices] = True
        parts.append(chosen)
    return torch.cat(parts)


@torch.no_grad()
def fidelity(score: Score, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fall of each sample's score without the chosen nodes, and with them only, [B].

    Nodes are removed by zeros. A good explanation has a large fall without its nodes (fidelity
    plus) and a small one with its nodes only (fidelity minus).

    Args:
        score: the explained function.
        x: nodes, [N, C].
        chosen: the nodes of the explanation, bool [N].

    Source: Yuan et al., 2022, https://arxiv.org/abs/2012.15445.
    """
    full = score(x)
    keep = chosen[:, None]
    return full - score(x * ~keep), full - score(x * keep)


def overlap(first: Tensor, second: Tensor) -> float:
    """Return the number of nodes that two explanations share, by that of both together."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
