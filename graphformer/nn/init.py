"""How large weights are before training."""

from __future__ import annotations

import math

from torch import nn

from graphformer.nn.experts import MixtureOfExperts


def weight_std(dim: int) -> float:
    """The deviation that weights of a model of this width start with: 0.02 at 768, as in GPT-2.

    It falls with the root of the width, so that maps of normalised nodes start out with results of
    one size at every width. With 0.02 throughout, narrow models hardly hear their attention and
    feed-forward nets for the first hundreds of steps.

    Source: Radford et al., 2019 (GPT-2), at its width; the root: Glorot & Bengio, 2010.
    """
    return 0.02 * math.sqrt(768 / dim)


RESIDUAL = ("attention.out.weight", "mlp.3.weight", "mlp.out.weight", "mlp.down")
"""How the weights are called whose output joins the residual stream."""


def initialise(network: nn.Module, *, std: float, depth: int) -> None:
    """Draw weights as GPT-2: from a normal distribution, a narrower one where residuals add up.

    Biases start at zero and norms as they are; so do tensors that belong to no linear map,
    embedding or mixture of experts.

    Args:
        network: whose weights are drawn.
        std: the deviation.
        depth: the number of its blocks.

    Source: Radford et al., 2019 (GPT-2), section 2.3.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.EmbeddingBag):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, MixtureOfExperts):
            nn.init.normal_(module.up, std=std)
    for name, weight in network.named_parameters():
        if name.endswith(RESIDUAL):
            nn.init.normal_(weight, std=std / math.sqrt(2 * max(depth, 1)))
