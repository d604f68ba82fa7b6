"""`Halo`: rows of other ranks that this rank's rows attend to, exchanged with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from graphformer.distributed.mesh import DataParallel


@dataclass(frozen=True, eq=False)
class Halo:
    """Which rows each rank sends to the others, and how many it receives.

    Attributes:
        ranks: those that exchange rows.
        rows: own rows that are sent, by receiving rank, int64 [S].
        send_sizes: number of rows sent to each rank, W ints.
        receive_sizes: number of rows received from each rank, W ints with the sum h.
    """

    ranks: DataParallel
    rows: Tensor
    send_sizes: list[int]
    receive_sizes: list[int]

    def extend(self, x: Tensor) -> Tensor:
        """Return own rows [m, C], then those received, [m + h, C].

        The gradient at a row is the sum of its gradients at all ranks. All ranks must call this,
        and the backward pass, equally often.
        """
        extended: Tensor = _Exchange.apply(x, self)
        return extended


class _Exchange(torch.autograd.Function):
    """Appends the rows of other ranks; the backward pass sends their gradients back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, halo: Halo) -> Tensor:
        ctx.halo, ctx.count = halo, len(x)
        sent = x[halo.rows.to(x.device)]
        received = x.new_zeros(sum(halo.receive_sizes), *x.shape[1:])
        dist.all_to_all_single(
            received, sent, halo.receive_sizes, halo.send_sizes, group=halo.ranks.group
        )
        return torch.cat([x, received])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        halo, count = ctx.halo, ctx.count  # type: ignore[attr-defined]
        own, foreign = gradients[0][:count], gradients[0][count:].contiguous()
        returned = own.new_zeros(len(halo.rows), *own.shape[1:])
        dist.all_to_all_single(
            returned, foreign, halo.send_sizes, halo.receive_sizes, group=halo.ranks.group
        )
        return own + _sum_by_row(returned, halo.rows.to(own.device), count), None


def _sum_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the sum of the values [S, C] of each of `count` rows, in a fixed order of addition."""
    order = rows.argsort(stable=True)
    sizes = torch.bincount(rows, minlength=count)
    return torch.segment_reduce(values[order], "sum", lengths=sizes, initial=0, unsafe=True)
