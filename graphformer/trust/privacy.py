"""What a model reveals of its training data: membership by loss or label, and memorised text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_roc
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.models.generation.generate import GenerateOptions
from graphformer.tasks import Classification
from graphformer.trust.explanation import Explained
from graphformer.trust.outputs import labelled


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


@torch.no_grad()
def label_robustness(
    task: Classification,
    batches: Iterable[BatchLike],
    split: str,
    *,
    scale: float = 1.0,
    copies: int = 8,
    seed: int = 0,
) -> Tensor:
    """Return the share of noisy copies of each labelled row whose predicted class is right, [B].

    Training samples keep their class under more noise than others, so that 1 minus this share is a
    score for `membership_inference` that reads labels only.

    Args:
        task: in evaluation mode.
        batches: of the split.
        split: "train", "val" or "test".
        scale: standard deviation of the noise on embedded nodes (or on the features of a network
            without embedding), relative to theirs.
        copies: number of copies.
        seed: of the noise.

    Source: Choquette-Choo et al., 2021, https://arxiv.org/abs/2007.14321.
    """
    generator = torch.Generator().manual_seed(seed)
    shares = []
    for batch in batches:
        explained = Explained(task, batch)
        deviation = scale * explained.x.std()
        right = []
        for _ in range(copies):
            noise = torch.randn(explained.x.shape, generator=generator)
            with explained.with_nodes(explained.x + deviation * noise) as noisy:
                logits, y = labelled(*task.labelled_outputs(noisy, split))
            right.append(logits.argmax(1) == y)
        shares.append(torch.stack(right).double().mean(0))
    return torch.cat(shares)


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
