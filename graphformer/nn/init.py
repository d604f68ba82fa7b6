"""Initialisation of weights: their standard deviation by width, and GPT-2's scheme."""

from __future__ import annotations

import math

from torch import nn

from graphformer.nn.experts import GroupedRouter, MixtureOfExperts


def weight_std(dim: int) -> float:
    """Return the initial standard deviation of weights at a width: 0.02 sqrt(768 / dim).

    At 768 it is GPT-2's 0.02. It falls with the root of the width, so that linear maps of
    normalised nodes have outputs of the same scale at every width. With 0.02 at every width, the
    attention and feed-forward nets of narrow models contribute almost nothing in the first hundreds
    of steps.

    Source: Radford et al., 2019 (GPT-2), at its width; the root: Glorot & Bengio, 2010.
    """
    return 0.02 * math.sqrt(768 / dim)


RESIDUAL = ("attention.out.weight", "mlp.3.weight", "mlp.out.weight", "mlp.down")
"""Ends of the names of weights whose output is added to the residual stream."""


def initialise(network: nn.Module, *, std: float, depth: int) -> None:
    """Initialise weights as GPT-2 does, in place.

    Weights are N(0, std^2), those of residual branches N(0, std^2 / (2 depth)), and biases zero.
    Norms and parameters outside of linear maps, embeddings and mixtures of experts keep their
    values.

    Args:
        network: the module with the weights.
        std: standard deviation.
        depth: number of blocks.

    Source: Radford et al., 2019 (GPT-2), section 2.3.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, MixtureOfExperts):
            nn.init.normal_(module.up, std=std)
        if isinstance(module, GroupedRouter):
            nn.init.normal_(module.weight, std=std)
    for name, weight in network.named_parameters():
        if name.endswith(RESIDUAL):
            nn.init.normal_(weight, std=std / math.sqrt(2 * max(depth, 1)))
