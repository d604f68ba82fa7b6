"""Minibatches of sampled answers: their prompts, log-probabilities and values."""

from __future__ import annotations

import torch
from helpers.preferences import policy
from helpers.rollouts import policy_settings

from graphformer.distributed.mesh import DataParallel
from graphformer.patterns import Causal
from graphformer.tasks.post_training.policy.collect import evaluate_answers, split_answers
from graphformer.tasks.post_training.policy.critic import Critic
from graphformer.tasks.post_training.reference import FrozenReference
from graphformer.tasks.post_training.rewards import Completion


def test_minibatches_have_all_answers_to_their_prompts() -> None:
    settings = policy_settings(group_size=3, minibatches=2)
    assert split_answers(5, settings, DataParallel()) == [slice(0, 9), slice(9, 15)]
    assert split_answers(1, settings, DataParallel()) == [slice(0, 3)]


def test_what_is_computed_of_an_answer() -> None:
    network = policy()
    reference, critic = FrozenReference(network), Critic(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
        critic.head.bias.fill_(0.3)
    completions = [Completion("", "", "", ids, 2, True) for ids in ([1, 2, 3, 4, 5], [6, 7, 8])]
    found = evaluate_answers(
        completions, torch.tensor([0.5, 2.0]), network=network, critic=critic,
        reference=reference, adjacency=Causal(), temperature=0.6,
    )  # fmt: skip
    assert found.batch.y.tolist() == [-100, 3, 4, 5, -100, 8]
    assert (found.lengths, found.rewards.tolist()) == ((3, 1), [0.5, 2.0])
    logits = network(found.batch, Causal()(found.batch))[[1, 2, 3, 5]].detach() / 0.6
    expected = logits.log_softmax(-1)[range(4), [3, 4, 5, 8]]
    torch.testing.assert_close(found.log_p, expected)
    assert not torch.allclose(found.log_p, found.reference)
    torch.testing.assert_close(found.values, torch.full((4,), 0.3))
    assert not found.log_p.requires_grad
