"""The critic: one value before each answer token, zero at first, on either trunk."""

from __future__ import annotations

import pytest
import torch
from helpers.preferences import VOCAB, policy
from torch import nn

from graphformer import models
from graphformer.nn import Head
from graphformer.patterns import Causal
from graphformer.tasks.post_training.policy.critic import Critic
from graphformer.tasks.post_training.rollouts import pack_answers


def test_values_of_a_shared_trunk() -> None:
    network, batch = policy().eval(), pack_answers([[1, 2, 3, 4], [5, 6]], [2, 1])
    critic = Critic(network)
    logits, values = critic(network, batch, Causal())
    assert torch.equal(logits, network(batch, Causal()(batch)))
    assert values.tolist() == [0, 0, 0]
    nn.init.ones_(critic.head.weight)
    values = critic(network, batch, Causal())[1]
    nodes = network.transformer(network.embedding(batch), Causal()(batch), batch.pos)
    torch.testing.assert_close(values, nodes.sum(1)[[1, 2, 3]])


def test_values_of_a_network_of_its_own() -> None:
    torch.manual_seed(0)
    own = models.language_model(VOCAB, dim=8, depth=1, num_heads=2, max_length=9)
    own.head = Head(8, 1)
    batch = pack_answers([[1, 2, 3, 4], [5, 6]], [2, 1])
    values = Critic(policy(), own)(policy(), batch, Causal())[1]
    torch.testing.assert_close(values, own(batch, Causal()(batch)).squeeze(1)[[1, 2, 3]])
    with pytest.raises(ValueError, match="value_network: got None for a Linear"):
        Critic(nn.Linear(2, 2))
