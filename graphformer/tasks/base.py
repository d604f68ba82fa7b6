"""What every task shares: the network over a pattern's adjacency, the optimiser, the schedule."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from graphformer.patterns import Pattern
from graphformer.tasks.finetuning import add_lora, freeze, layer_lr_factors, merge_lora
from graphformer.tasks.optimization import lr_factor, make_optimizer
from graphformer.tasks.warm_start import load_pretrained

if TYPE_CHECKING:
    from torch_geometric.data import Data


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from graphformer.data import Tokenizer


Stage = Literal["val", "test"]
Updates = Mapping[str, tuple[Tensor, ...]]


class TaskOptions(TypedDict, total=False):
    """The options of `Task` that every task accepts; `Task` describes them."""

    lr: float
    weight_decay: float
    optimizer: Literal["adamw", "adam"]
    betas: tuple[float, float]
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    min_lr_ratio: float
    pretrained: str | None
    frozen_blocks: int
    frozen_embedding: bool
    layer_decay: float
    lora: dict[str, Any] | None


class Task(pl.LightningModule):
    """A network trained over the adjacency that a pattern makes of each batch.

    A subclass calls `add_metrics` in its constructor and defines `training_step`, which returns
    `training_loss`, and `evaluate`.

    `task.adjacency` may be replaced at any time: the same weights then attend over other edges.
    With `accumulate_grad_batches`, gradients are those of one mean over all the labels of the
    accumulated batches, however unevenly these carry labels (in each process on its own).

    Args:
        network: `network(batch, adjacency)` gives the outputs, one row a node or a sample.
        adjacency: who attends to whom in a batch.
        lr: highest learning rate.
        weight_decay: "adamw" decays matrices only; with "adam" it is an L2 penalty on everything.
        optimizer: "adamw" or "adam".
        betas: decay rates of the two moments.
        schedule: what follows the warm-up, down to `min_lr_ratio` at the last step.
        warmup_steps: optimiser steps of linear warm-up.
        min_lr_ratio: last learning rate as a fraction of `lr`.
        pretrained: a checkpoint, the folder of a run, or a folder of Hugging Face's, whose weights
            training starts from; heads that do not fit stay as they are.
        frozen_blocks: how many of the first blocks are not trained.
        frozen_embedding: whether the embedding is not trained.
        layer_decay: the learning rate of each layer as a fraction of the next one's.
        lora: trains adapters of low rank, and the head, instead of all weights: settings of
            `peft.LoraConfig`, such as {"r": 8, "lora_alpha": 16}.
    """

    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        optimizer: Literal["adamw", "adam"] = "adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        warmup_steps: int = 0,
        min_lr_ratio: float = 0.0,
        pretrained: str | None = None,
        frozen_blocks: int = 0,
        frozen_embedding: bool = False,
        layer_decay: float = 1.0,
        lora: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.adjacency = adjacency
        self.lr = lr
        self.weight_decay = weight_decay
        self.optimizer_name = optimizer  # Lightning has a method `optimizers`
        self.betas = betas
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.min_lr_ratio = min_lr_ratio
        self.pretrained = pretrained
        self.layer_decay, self.lora = layer_decay, lora
        if lora is not None and (frozen_blocks or frozen_embedding):
            raise ValueError(
                "lora freezes all weights but the adapters and the head: leave out frozen_blocks "
                "and frozen_embedding"
            )
        if frozen_blocks or frozen_embedding:
            freeze(network, blocks=frozen_blocks, embedding=frozen_embedding)
        if layer_decay != 1.0:
            layer_lr_factors(network, layer_decay)  # says now what it could not do later
        self._adapter: tuple[Any, ...] = ()  # not a module of this one: the network holds it
        self._label_counts: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Start from pretrained weights, if any; those of a run that is resumed come later."""
        if stage == "fit" and self.pretrained is not None:
            load_pretrained(self.network, self.pretrained)

    def configure_model(self) -> None:
        """Put adapters in, if any: after pretrained weights, before those of a checkpoint."""
        if self.lora is not None and not self._adapter:
            self._adapter = (add_lora(self.network, self.lora),)

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapters, and the head, as peft does.

        Raises ValueError for a task without adapters.
        """
        self._need_adapter().save_pretrained(os.fspath(folder))

    def merge_adapter(self) -> nn.Module:
        """Merge the adapters into the network's weights, by peft; the network, then without them.

        Raises ValueError for a task without adapters.
        """
        self.network = merge_lora(self._need_adapter())
        self._adapter, self.lora = (), None
        return self.network

    def _need_adapter(self) -> Any:
        if not self._adapter:
            raise ValueError("there are no adapters: give the task lora, and train it")
        return self._adapter[0]

    def forward(self, batch: Data) -> Tensor:
        """Outputs of the network, [N, K] or [B, K]."""
        output: Tensor = self.network(batch, self.adjacency(batch))
        return output

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Outputs of the network, [N, K] or [B, K]."""
        return self(batch)

    def add_metrics(self, metrics: Mapping[str, Metric]) -> None:
        """Create the metrics of validation and test, logged as `val/NAME` and `test/NAME`."""
        self.val_metrics = nn.ModuleDict(metrics)
        self.test_metrics = nn.ModuleDict({name: m.clone() for name, m in metrics.items()})

    def metrics_of(self, stage: Stage) -> dict[str, Metric]:
        """The metrics of a stage by their name, without the stage."""
        return dict(getattr(self, f"{stage}_metrics").items())

    def evaluate(self, batch: Data, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """What a batch adds to the metrics, and its number of rows.

        Returns:
            The arguments of `update` by metric, for the metrics that are defined for this data;
            and the weight of the batch where Lightning averages over batches.
        """
        raise NotImplementedError(f"{type(self).__name__} must define evaluate()")

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Update and log the validation metrics."""
        self._update_metrics(batch, batch_idx, "val")

    def test_step(self, batch: Data, batch_idx: int) -> None:
        """Update and log the test metrics."""
        self._update_metrics(batch, batch_idx, "test")

    def _update_metrics(self, batch: Data, batch_idx: int, stage: Stage) -> None:
        updates, rows = self.evaluate(batch, batch_idx, stage)
        metrics = self.metrics_of(stage)
        for name, arguments in updates.items():
            metrics[name].update(*arguments)
            self.log(f"{stage}/{name}", metrics[name], prog_bar=True, batch_size=rows)

    def training_loss(self, total: Tensor, count: Tensor, *, rows: int) -> Tensor:
        """Log and return the loss of a batch: the sum over its labels [], by their number [].

        The batches of one accumulation are all divided by the first one's number of labels;
        `on_before_optimizer_step` puts the number of all of them in its place.
        """
        self.log(
            "train/loss", (total / count.clamp(min=1)).detach(), prog_bar=True, batch_size=rows
        )
        self._label_counts.append(count)
        return total / self._label_counts[0].clamp(min=1)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the accumulated gradient that of one mean over all accumulated labels."""
        accumulated = self.trainer.accumulate_grad_batches
        if accumulated > 1:
            first = self._label_counts[0].clamp(min=1)
            factor = accumulated * first / torch.stack(self._label_counts).sum().clamp(min=1)
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor.to(parameter.grad))
        self._label_counts.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, with a schedule that goes forward at every step."""
        total_steps = self.trainer.estimated_stepping_batches
        if self.schedule != "constant" and math.isinf(total_steps):
            raise ValueError(
                f"schedule {self.schedule!r} needs to know the last step, but the trainer has "
                "neither max_steps nor max_epochs: set one of them, or schedule='constant'"
            )
        optimizer = make_optimizer(
            self,
            self.optimizer_name,
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=self.betas,
            rates=None
            if self.layer_decay == 1.0
            else layer_lr_factors(self.network, self.layer_decay),
            fused=self.trainer.precision != "16-mixed",  # the loss scaler unscales on its own
        )
        factor = lr_factor(
            self.schedule,
            warmup_steps=self.warmup_steps,
            total_steps=total_steps,
            min_lr_ratio=self.min_lr_ratio,
        )
        scheduler = LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def label_mask(batch: Data, stage: str, level: str = "node") -> Tensor | None:
    """Which rows of the outputs count in a stage ("train", "val" or "test"): [rows] bool, or None.

    None stands for all of them; a batch with `train_mask`, `val_mask` and `test_mask` is one graph
    whose nodes are split; one with `train_edge_mask` and so on has its edges split.
    """
    name = f"{stage}_edge_mask" if level == "edge" else f"{stage}_mask"
    mask: Tensor | None = getattr(batch, name, None)
    return mask


def check_output_rows(output: Tensor, y: Tensor, level: str) -> Tensor:
    """The outputs, if they have a row for every label.

    Raises:
        ValueError: the network answers for another level than the labels are at.
    """
    if output.shape[0] != y.shape[0]:
        raise ValueError(
            f"level={level!r}: the network gave {output.shape[0]} rows for {y.shape[0]} labels; "
            "a node task needs one row a node, a graph task one row a sample (a pooling head)"
        )
    return output


def require_tokenizer(task: pl.LightningModule) -> Tokenizer:
    """The tokenizer of the data that the task is run on.

    Raises:
        ValueError: the data has none.
    """
    data: Any = getattr(task.trainer, "datamodule", None)
    tokenizer: Tokenizer | None = getattr(data, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"{type(task).__name__} needs data with a tokenizer, which {type(data).__name__} is "
            "not: choose TextFile, TextRecords, LabelledText or TextPairs."
        )
    return tokenizer
