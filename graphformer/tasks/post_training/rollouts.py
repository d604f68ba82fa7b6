"""`Rollouts`: answers that the policy has sampled, with all that its updates need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphformer.batch_type import IGNORE_INDEX, Batch
from graphformer.data.batch import pack_tokens
from graphformer.tasks.post_training.log_probs import answer_samples, sum_by_sample


@dataclass
class Rollouts:
    """B answers with their prompts, packed end to end: N tokens, T of them in answers.

    Attributes:
        batch: x [N], pos [N], lengths, and y [N]: the next token where an answer contains it.
        sample: sample of each answer token, int64 [T].
        lengths: number of tokens of each answer, B ints.
        rewards: of the answers, [B].
        log_p: log-probability of each answer token under the policy that drew it, [T].
        reference: under the reference, [T].
        values: of the critic before each token, [T]; zeros without one.
        advantages: of each token, [T].
        returns: targets of the critic, [T].
    """

    batch: Batch
    sample: Tensor
    lengths: tuple[int, ...]
    rewards: Tensor
    log_p: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of each answer's values, [B], from those of its tokens, [T]."""
        return sum_by_sample(values, self.sample, len(self.lengths))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of each answer's values, [B], from those of its tokens, [T]."""
        sizes = torch.tensor(self.lengths, device=values.device)
        return self.sum(values) / sizes.clamp(min=1)

    def per_token(self, values: Tensor) -> Tensor:
        """Return each answer's value at its tokens, [T], from [B]."""
        return values[self.sample]

    def last_tokens(self) -> Tensor:
        """Return the index of each answer's last token, int64 [B]."""
        return torch.tensor(self.lengths, device=self.sample.device).cumsum(0) - 1

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as plain types and tensors on the host, for a checkpoint."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        state |= {k: v.cpu() for k, v in state.items() if isinstance(v, Tensor)}
        return {**state, "batch": self.batch.to("cpu").to_dict()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> Rollouts:
        """Return the rollouts of a checkpoint on a device."""
        tensors = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state.items()}
        return cls(**{**tensors, "batch": Batch(**state["batch"]).to(device)})


def pack_answers(rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int]) -> Batch:
    """Return texts as a batch with labels at the tokens after their prompts.

    Args:
        rows: token ids of each prompt with its answer.
        prompt_lengths: number of tokens of each prompt, at least 1.
    """
    batch = pack_tokens([row[:-1] for row in rows])
    labels = [
        F.pad(torch.tensor(row[prompt:]), (prompt - 1, 0), value=IGNORE_INDEX)
        for row, prompt in zip(rows, prompt_lengths, strict=True)
    ]
    batch.y = torch.cat(labels)
    return batch


def split_evenly(count: int, parts: int) -> list[int]:
    """Return the sizes of parts that differ by one at most, the larger ones first.

    Args:
        count: their sum.
        parts: their number.
    """
    return [count // parts + (i < count % parts) for i in range(parts)]


def new_rollouts(
    batch: Batch, rewards: Tensor, log_p: Tensor, reference: Tensor, values: Tensor | None = None
) -> Rollouts:
    """Return rollouts without advantages.

    Args:
        batch, rewards, log_p, reference, values: see `Rollouts`.
    """
    sample, zeros = answer_samples(batch), torch.zeros_like(log_p)
    sizes = tuple(torch.bincount(sample, minlength=len(batch.lengths)).tolist())
    return Rollouts(
        batch=batch,
        sample=sample,
        lengths=sizes,
        rewards=rewards.to(log_p),
        log_p=log_p,
        reference=reference,
        values=zeros if values is None else values,
        advantages=zeros,
        returns=zeros,
    )
