"""What a model reveals of its training data: membership by loss, and memorised text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_roc
from typing_extensions import Unpack

from graphformer.models.generation.generate import GenerateOptions


class Membership(NamedTuple):
    """How well a threshold on the loss tells training samples from others."""

    auc: float
    """Area under the ROC curve; 0.5 is chance."""
    hits_at_low_rate: float
    """Largest share of training samples found at a rate of false alarms of at most 1 %."""


def membership_inference(members: Tensor, others: Tensor) -> Membership:
    """Return the success of an attack that takes samples of low loss for training samples.

    Args:
        members: losses of training samples, [n].
        others: losses of samples that were not used for training, [m].

    Raises:
        ValueError: when there are no samples of a kind.

    Source: Yeom et al., 2018, https://arxiv.org/abs/1709.01604; the rate of 1 %: Carlini et al.,
    2022, https://arxiv.org/abs/2112.03570.
    """
    if not len(members) or not len(others):
        raise ValueError(
            f"members and others: got {len(members)} and {len(others)} losses, expected at least "
            "one of each; choose other data"
        )
    # Ranks instead of losses: torchmetrics applies a sigmoid to scores outside of [0, 1].
    losses = torch.cat([members, others]).double()
    ranks = losses.unique(return_inverse=True)[1]
    scores = 1 - ranks.double() / (ranks.max() + 1)
    is_member = torch.arange(len(scores)) < len(members)
    false_alarms, hits, _ = binary_roc(scores, is_member.long())
    area = float(binary_auroc(scores, is_member.long()))
    return Membership(area, float(hits[false_alarms <= 0.01].max()))


class Generates(Protocol):
    """A language model."""

    def generate(
        self,
        prompts: list[list[int]],
        *,
        max_new_tokens: int,
        **options: Unpack[GenerateOptions],
    ) -> list[int] | list[list[int]]:
        """Return token ids, prompts included."""
        ...


def memorized_tokens(
    model: Generates, passages: Sequence[Sequence[int]], *, prefix_length: int
) -> Tensor:
    """Return how many tokens after its prefix a model continues each passage with, int64 [P].

    Continuations are greedy; a count equal to the rest of the passage is verbatim memorisation.

    Args:
        model: a language model.
        passages: token ids, P passages of one length.
        prefix_length: number of tokens of each that the model reads.

    Source: Carlini et al., 2023, https://arxiv.org/abs/2202.07646.
    """
    prompts = [list(passage[:prefix_length]) for passage in passages]
    length = len(passages[0]) - prefix_length
    found = model.generate(prompts, max_new_tokens=length, temperature=0.0)
    counts = []
    for passage, continued in zip(passages, found, strict=True):
        assert isinstance(continued, list)
        pairs = list(zip(passage[prefix_length:], continued[prefix_length:], strict=False))
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        counts.append(first)
    return torch.tensor(counts)
