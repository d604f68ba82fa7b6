"""Log-probabilities and entropies of answer tokens, and their sums and means by sample.

Answer tokens of a batch are its nodes with a label: T of N nodes, packed end to end. `sample` [T]
is the sample of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.patterns import lengths


def answer_samples(batch: BatchLike) -> Tensor:
    """Return the sample of each answer token of a batch, int64 [T]."""
    return samples_of_nodes(batch)[batch.y != IGNORE_INDEX]


def samples_of_nodes(batch: BatchLike) -> Tensor:
    """Return the sample of each node of a batch, int64 [N]."""
    sizes = torch.tensor(lengths(batch), device=batch.x.device)
    samples = torch.arange(len(sizes), device=sizes.device)
    return samples.repeat_interleave(sizes, output_size=len(batch.x))


def answer_logits(logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the logits at answer tokens, divided by the temperature, float32 or wider [T, K].

    Args:
        logits: of all nodes, [N, K].
        labels: the token after each node, int64 [N]; `IGNORE_INDEX` where it is no answer token.
        temperature: that of sampling: policy, old and reference policy all use it.
    """
    chosen = logits[labels != IGNORE_INDEX]
    chosen = chosen if chosen.dtype == torch.float64 else chosen.float()
    return chosen if temperature == 1.0 else chosen / temperature


def log_probs(logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return log p(token) of each answer token, [T].

    Args:
        logits, labels, temperature: of `answer_logits`.
    """
    chosen = answer_logits(logits, labels, temperature=temperature).log_softmax(-1)
    return chosen.gather(1, labels[labels != IGNORE_INDEX].unsqueeze(1)).squeeze(1)


def entropy(logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return -sum_k p_k log p_k in nats at each answer token, [T].

    Args:
        logits, labels, temperature: of `answer_logits`.
    """
    log_p = answer_logits(logits, labels, temperature=temperature).log_softmax(-1)
    p = log_p.exp()
    return -torch.where(p > 0, p * log_p, 0.0).sum(-1)  # 0 log 0 is 0, though log 0 is infinite


def sum_by_sample(values: Tensor, sample: Tensor, num_samples: int) -> Tensor:
    """Return the sum of each sample's values, [B]; 0 for a sample without any.

    Args:
        values: of tokens, [T].
        sample: of each token, int64 [T].
        num_samples: B.
    """
    return values.new_zeros(num_samples).index_add(0, sample, values)


def mean_by_sample(values: Tensor, sample: Tensor, num_samples: int) -> Tensor:
    """Return the mean of each sample's values, [B]; 0 for a sample without any.

    Args:
        values, sample, num_samples: of `sum_by_sample`.
    """
    counts = torch.bincount(sample, minlength=num_samples).clamp(min=1)
    return sum_by_sample(values, sample, num_samples) / counts
