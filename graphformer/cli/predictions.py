"""`GatherPredictions`, which collects the outputs of all processes in the order of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils._pytree import tree_leaves

from graphformer.batch_type import BatchLike
from graphformer.data.loader import BatchLoader

Key = tuple[int, int]
"""Loader and index of a sample."""


class Rows(NamedTuple):
    """The output of a sample.

    Attributes:
        output: [rows, K]; a row for the sample, or for each of its nodes.
        nodes: numbers of the nodes, where they are a part of the sample's.
    """

    output: Tensor
    nodes: Tensor | None = None


class GatherPredictions(Callback):
    """Collects the outputs of all processes, each sample once, in the order of the data.

    Args:
        write: called with the rows of each sample in the first process, at the end.
        split: whose nodes are kept where a batch has split nodes; "all" for all nodes.
    """

    def __init__(self, write: Callable[[list[Rows]], None], split: str = "all") -> None:
        self.write, self.split = write, split
        self._by_sample: list[tuple[Key, Rows]] = []
        self._indices: dict[int, Iterator[Tensor]] = {}

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: BatchLike,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows of each sample of the batch."""
        output = outputs.detach().cpu()
        if self._keep_seeds(trainer, output, batch, dataloader_idx):
            return
        mask = getattr(batch, f"{self.split}_mask", None)
        if getattr(batch, "partition", None) is not None:
            self._keep_part(output, batch, mask, dataloader_idx)
            return
        if mask is not None and len(mask) == len(output):
            nodes = mask.cpu().nonzero()[:, 0]
            self._by_sample.append(((dataloader_idx, batch_idx), Rows(output[nodes], nodes)))
            return
        samples = self._next_samples(trainer, dataloader_idx)
        parts = split_rows(output, batch, len(samples))
        # Rows that cannot be assigned to samples stay together, at the first sample.
        for sample, part in zip(samples if len(parts) > 1 else samples[:1], parts, strict=True):
            self._by_sample.append(((dataloader_idx, sample), Rows(part)))

    def _keep_seeds(
        self, trainer: pl.Trainer, output: Tensor, batch: BatchLike, loader: int
    ) -> bool:
        """Keep the rows of the nodes whose neighbourhoods a batch has; False for other batches."""
        nodes = getattr(batch, "n_id", None)
        if nodes is None or len(nodes) != len(output):
            return False
        samples = self._next_samples(trainer, loader)
        is_disjoint = getattr(batch, "ptr", None) is not None
        seeds = batch.ptr[:-1].cpu() if is_disjoint else torch.arange(len(samples))
        parts = zip(samples, output[seeds].split(1), nodes.cpu()[seeds].split(1), strict=True)
        self._by_sample += [((loader, sample), Rows(row, node)) for sample, row, node in parts]
        return True

    def _keep_part(
        self, output: Tensor, batch: BatchLike, mask: Tensor | None, loader: int
    ) -> None:
        """Keep the rows of a part of a divided graph, by the numbers of the nodes in the graph."""
        chosen = slice(None) if mask is None else mask.cpu()
        rows, nodes = output[chosen].split(1), batch.nodes.cpu()[chosen].split(1)
        parts = zip(rows, nodes, strict=True)
        self._by_sample += [((loader, int(node)), Rows(row, node)) for row, node in parts]

    def _next_samples(self, trainer: pl.Trainer, number: int) -> list[int]:
        """Return the indices of the samples of the next batch of a loader."""
        if number not in self._indices:
            loader = tree_leaves(trainer.predict_dataloaders)[number]
            self._indices[number] = _sample_indices(loader, trainer)
        samples: list[int] = next(self._indices[number]).tolist()
        return samples

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the rows of all processes and write them."""
        gathered: list[Any] = [self._by_sample] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(gathered, self._by_sample)
        if trainer.is_global_zero:
            self.write(in_data_order(gathered))


def split_rows(output: Tensor, batch: BatchLike, samples: int) -> list[Tensor]:
    """Return the rows of each sample: one row, or one row per node; else all rows together."""
    if output.shape[0] == samples:
        return list(output.split(1))
    lengths = getattr(batch, "lengths", None)
    if lengths is None and getattr(batch, "ptr", None) is not None:
        lengths = batch.ptr.diff().tolist()
    if lengths is not None and len(lengths) == samples and sum(lengths) == output.shape[0]:
        return list(output.split(list(lengths)))
    return [output]


def in_data_order(gathered: list[list[tuple[Key, Rows]]]) -> list[Rows]:
    """Return the rows of all samples by loader and index, without those of a repeated sample."""
    rows = {key: part for process in reversed(gathered) for key, part in process}
    return [rows[key] for key in sorted(rows)]


def _sample_indices(loader: Any, trainer: pl.Trainer) -> Iterator[Tensor]:
    """Yield the sample indices of each batch of this process."""
    if isinstance(loader, BatchLoader):
        yield from loader.sampler
        return
    # Lightning distributes the samples of a torch DataLoader in turn.
    size, first = loader.batch_size or 1, trainer.global_rank
    while True:
        yield torch.arange(first, first + size * trainer.world_size, trainer.world_size)
        first += size * trainer.world_size
