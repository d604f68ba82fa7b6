"""`DataParallel`: the ranks that train on different batches, and what they exchange."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

_Item = TypeVar("_Item")


class DataParallel(NamedTuple):
    """The ranks that train one model on different batches.

    Attributes:
        rank: of this process among them.
        size: their number W; 1 for a process alone, which exchanges nothing.
        group: their process group; None for that of all processes.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def sum(self, *numbers: Tensor) -> list[Tensor]:
        """Return the sums over all ranks of tensors of one shape, without gradients."""
        if self.size == 1:
            return [number.detach() for number in numbers]
        # In double precision, which holds all counts exactly, by one message.
        home = next((n.device for n in numbers if n.device.type != "cpu"), numbers[0].device)
        total = torch.stack([number.detach().to(home, torch.float64) for number in numbers])
        dist.all_reduce(total, group=self.group)
        return [part.to(number.dtype) for part, number in zip(total, numbers, strict=True)]

    def sum_with_gradient(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks; its gradient is the sum of all gradients."""
        if self.size == 1:
            return x
        total: Tensor = _Sum.apply(x, self)
        return total

    def gather_rows(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks, in the order of the ranks, [n_0 + n_1 + ..., C].

        The gradient at a row is the sum of its gradients at all ranks.

        Args:
            x: the rows of this rank, [n, C]; n may differ between ranks, and may be 0.
        """
        if self.size == 1:
            return x
        rows: Tensor = _GatherRows.apply(x, self)
        return rows

    def count_before(self, count: int) -> int:
        """Return the sum of the counts of the ranks before this one, such as its first row."""
        return sum(self.gather_objects(count)[: self.rank])

    def gather_objects(self, item: _Item) -> list[_Item]:
        """Return an object of each rank, W of them."""
        gathered: list[Any] = [item] * self.size
        if self.size > 1:
            dist.all_gather_object(gathered, item, group=self.group)
        return gathered


class _Sum(torch.autograd.Function):
    """Sums a tensor over all ranks, and its gradients in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: DataParallel) -> Tensor:
        ctx.ranks = ranks
        total = x.contiguous().clone()
        dist.all_reduce(total, group=ranks.group)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total, group=ctx.ranks.group)  # type: ignore[attr-defined]
        return total, None


class _GatherRows(torch.autograd.Function):
    """Concatenates the rows of all ranks; the backward pass sums the gradients of all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: DataParallel) -> Tensor:
        sizes = ranks.gather_objects(len(x))
        ctx.ranks, ctx.first, ctx.count = ranks, sum(sizes[: ranks.rank]), len(x)
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # gloo gathers tensors of one size only
        padded[: len(x)] = x
        parts = [torch.zeros_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=ranks.group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        ranks, first, count = ctx.ranks, ctx.first, ctx.count  # type: ignore[attr-defined]
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total, group=ranks.group)
        return total[first : first + count], None


def data_parallel(module: pl.LightningModule | pl.LightningDataModule) -> DataParallel:
    """Return the ranks among which the trainer of a module or of its data divides the batches."""
    trainer = module._trainer if isinstance(module, pl.LightningModule) else module.trainer
    strategy = None if trainer is None else trainer.strategy
    ranks = getattr(strategy, "distributed_sampler_kwargs", None)
    if ranks is None or ranks["num_replicas"] == 1 or not dist.is_initialized():
        return DataParallel()
    mesh = getattr(strategy, "device_mesh", None)
    group = None if mesh is None else mesh["data_parallel"].get_group()
    return DataParallel(ranks["rank"], ranks["num_replicas"], group)
