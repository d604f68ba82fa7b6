"""`Critic`: the expected reward before each token, on the trunk of the policy or on its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphformer.batch_type import IGNORE_INDEX, BatchLike
from graphformer.patterns import Pattern
from graphformer.tasks.labels import at_least_float32


class Critic(nn.Module):
    """Values of the states before answer tokens, [T].

    Args:
        network: the policy, a `Model`; its nodes are the input of a linear layer that begins at
            zero.
        own_network: computes values itself, [N, 1], instead of using the policy's nodes.

    Raises:
        ValueError: when the policy has no Transformer whose nodes could be used.
    """

    def __init__(self, network: Any, own_network: nn.Module | None = None) -> None:
        super().__init__()
        self.own_network = own_network
        self.head: nn.Linear | None = None
        if own_network is not None:
            return
        if not hasattr(network, "transformer"):
            raise ValueError(
                f"value_network: got None for a {type(network).__name__}, expected a network of "
                "its own, because that has no Transformer to share; set value_network"
            )
        self.head = nn.Linear(network.transformer.dim, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, network: Any, batch: BatchLike, adjacency: Pattern) -> tuple[Tensor, Tensor]:
        """Return the policy's logits, [N, K], and the value before each answer token, [T].

        Values are float32 or wider.

        Args:
            network: the policy.
            batch: with labels y [N].
            adjacency: pattern of the edges of attention.
        """
        edges = adjacency(batch)
        if self.own_network is not None:
            logits, values = network(batch, edges), self.own_network(batch, edges)
        else:
            assert self.head is not None
            resolved = network.resolve_adjacency(batch, edges)
            nodes = network.transformer(network.embedding(batch), resolved, batch.pos)
            logits, values = network.head(nodes, batch), self.head(nodes)
        return logits, at_least_float32(values[batch.y != IGNORE_INDEX].squeeze(1))


def policy_and_values(
    network: Any, critic: Critic | None, batch: BatchLike, adjacency: Pattern
) -> tuple[Tensor, Tensor | None]:
    """Return the policy's logits, [N, K], and the critic's values, [T], if there is one.

    Args:
        network: the policy.
        critic: of the policy, for methods that have one.
        batch, adjacency: of `Critic.forward`.
    """
    if critic is None:
        return network(batch, adjacency(batch)), None
    found: tuple[Tensor, Tensor] = critic(network, batch, adjacency)
    return found
