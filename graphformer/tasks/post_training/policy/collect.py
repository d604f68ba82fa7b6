"""Minibatches of sampled answers, with the log-probabilities and values that updates need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graphformer.distributed.mesh import DataParallel
from graphformer.models.generation import eval_mode
from graphformer.patterns import Pattern
from graphformer.tasks.post_training.log_probs import log_probs
from graphformer.tasks.post_training.policy.critic import Critic, policy_and_values
from graphformer.tasks.post_training.policy.settings import PolicySettings
from graphformer.tasks.post_training.reference import Reference
from graphformer.tasks.post_training.rewards import Completion
from graphformer.tasks.post_training.rollouts import (
    Rollouts,
    new_rollouts,
    pack_answers,
    split_evenly,
)


def split_answers(num_prompts: int, settings: PolicySettings, ranks: DataParallel) -> list[slice]:
    """Return the answers of each minibatch, which has all answers to its prompts.

    There are as many minibatches on all ranks, which else would sample at different steps.

    Args:
        num_prompts: of this rank.
        settings: of the run.
        ranks: that train together.
    """
    parts = min(settings.minibatches, *ranks.gather_objects(num_prompts))
    sizes = [settings.group_size * size for size in split_evenly(num_prompts, parts)]
    return [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(parts)]


@torch.no_grad()
def evaluate_answers(
    completions: Sequence[Completion],
    rewards: Tensor,
    *,
    network: nn.Module,
    critic: Critic | None,
    reference: Reference,
    adjacency: Pattern,
    temperature: float,
) -> Rollouts:
    """Return a minibatch with log-probabilities of policy and reference, and values.

    It is packed as in the updates, so that all ratios of the first one are exactly 1.

    Args:
        completions: the answers of the minibatch.
        rewards: of these, [B].
        network: the policy.
        critic: for methods that have one.
        reference: the policy before training.
        adjacency: pattern of the edges of attention.
        temperature: of sampling.
    """
    device = next(network.parameters()).device
    rows, starts = [c.ids for c in completions], [c.prompt_length for c in completions]
    batch = pack_answers(rows, starts).to(device)
    with eval_mode(network):
        logits, values = policy_and_values(network, critic, batch, adjacency)
    log_p = log_probs(logits, batch.y, temperature=temperature)
    log_p0 = reference.log_probs(network, batch, adjacency, temperature=temperature)
    return new_rollouts(batch, rewards.to(device), log_p, log_p0, values)
