"""Batch normalisation by the nodes of all processes of a distributed run."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from graphformer.distributed.mesh import DataParallel
from graphformer.nn.graph import NodeNorm


def share_statistics(
    network: nn.Module, ranks: DataParallel, is_padding: Callable[[], bool]
) -> None:
    """Let the `NodeNorm` layers of a network use the nodes of all ranks in training.

    Args:
        network: changed in place, until `unshare_statistics`.
        ranks: which take part in each forward and backward pass.
        is_padding: whether the nodes of this rank's batch do not count.
    """

    def sum_over_ranks(x: Tensor) -> Tensor:
        # Padding is multiplied by 0, so that its backward pass takes part in the exchange.
        return ranks.sum_with_gradient(0 * x if is_padding() else x)

    if ranks.size > 1:
        for norm in _norms(network):
            norm.sum_over_ranks = sum_over_ranks


def unshare_statistics(network: nn.Module) -> None:
    """Let the `NodeNorm` layers of a network use the nodes of this process only."""
    for norm in _norms(network):
        norm.sum_over_ranks = None


def _norms(network: nn.Module) -> list[NodeNorm]:
    return [module for module in network.modules() if isinstance(module, NodeNorm)]
