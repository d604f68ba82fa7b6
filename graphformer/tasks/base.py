"""`Task`, the base of all tasks: network, adjacency, loss, metrics, optimiser and schedule."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._pytree import tree_leaves
from torch_geometric.data import Data
from torchmetrics import Metric
from typing_extensions import Self

from graphformer.batch_type import BatchLike
from graphformer.data.loader import BatchLoader, is_padding, process_ranks
from graphformer.distributed import (
    data_parallel,
    full_tensors,
    save_atomically,
    scale_gradients,
    shard_parameters,
    share_statistics,
    unshare_statistics,
)
from graphformer.patterns import Pattern
from graphformer.tasks.finetuning import add_lora, freeze, layer_lr_factors, merge_lora
from graphformer.tasks.labels import convert_floats, nonzero
from graphformer.tasks.metrics import update_metric
from graphformer.tasks.optimization import OptimizerName, follow_lr, lr_factor, make_optimizer
from graphformer.tasks.stored_settings import (
    CONFIG_KEY,
    constructor_arguments,
    keep_call,
    settings_text,
)
from graphformer.tasks.warm_start import load_pretrained

Stage = Literal["val", "test"]
Updates = Mapping[str, tuple[Tensor, ...]]
_TRUE_PRECISIONS = {
    "64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16
}  # fmt: skip
_STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class Task(pl.LightningModule):
    """A network that is trained over the adjacency of each batch.

    A subclass calls `add_metrics` in its constructor and defines `training_step`, which returns
    `training_loss`, and `evaluate`.

    `task.adjacency` may be replaced at any time; the weights do not depend on it. The gradient of a
    step is that of one mean over all labels of its batches, those of all ranks and all that
    `accumulate_grad_batches` accumulates, even if the batches have different numbers of labels.

    Args:
        network: `network(batch, adjacency)` returns one row per node or per sample.
        adjacency: pattern of the edges of attention.
        lr: the highest learning rate.
        weight_decay: with "adamw" the decay of matrices, with "adam" an L2 penalty on all weights.
        optimizer: "adamw", "adam", "adamw_8bit" with moments of 8 bits (bitsandbytes or torchao) or
            "adamw_offload" with moments in the memory of the host (torchao, on a GPU).
        betas: decay rates of the first and second moment.
        schedule: the course of the learning rate after the warm-up, to `min_lr_ratio` at the end.
        warmup_steps: number of optimiser steps with linear warm-up.
        min_lr_ratio: the last learning rate divided by `lr`.
        pretrained: a checkpoint, the folder of a run, or a Hugging Face folder with initial
            weights; a head that does not fit keeps its own.
        frozen_blocks: number of first blocks that are not trained.
        frozen_embedding: whether the embedding is not trained.
        layer_decay: learning rate of a layer divided by that of the next layer.
        lora: settings of `peft.LoraConfig`, such as {"r": 8, "lora_alpha": 16}, to train low-rank
            adapters and the head instead of all weights.
        compile: whether training and evaluation run the network through `torch.compile`, with
            sizes that may vary; it needs a C++ compiler.

    Raises:
        ValueError: when `lora` is combined with frozen parts, or the network lacks the parts that
            `frozen_blocks`, `frozen_embedding` or `layer_decay` refer to.
    """

    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        optimizer: OptimizerName = "adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        warmup_steps: int = 0,
        min_lr_ratio: float = 0.0,
        pretrained: str | None = None,
        frozen_blocks: int = 0,
        frozen_embedding: bool = False,
        layer_decay: float = 1.0,
        lora: dict[str, Any] | None = None,
        compile: bool = False,
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
        self.compile_network = compile  # torch's modules have a method `compile`
        if lora is not None and (frozen_blocks or frozen_embedding):
            raise ValueError(
                "lora: got frozen_blocks or frozen_embedding as well, expected one of them; leave "
                "these out, because all weights but the adapters and the head are frozen"
            )
        if frozen_blocks or frozen_embedding:
            freeze(network, blocks=frozen_blocks, embedding=frozen_embedding)
        if layer_decay != 1.0:
            layer_lr_factors(network, layer_decay)  # raises early if the network has no blocks
        self._adapter: tuple[Any, ...] = ()  # in a tuple, so that it is not a submodule
        self._label_counts: list[Tensor] = []
        self._is_padding = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let constructors keep their arguments, which checkpoints contain."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = keep_call(cls.__init__)  # type: ignore[method-assign]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings of the task and its data, unless `graphformer fit` has added its own."""
        if CONFIG_KEY not in checkpoint:
            data: Any = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
            checkpoint[CONFIG_KEY] = settings_text(self, data)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a descriptor
        cls, checkpoint_path: str | os.PathLike[str], **changed: Any
    ) -> Self:
        """Return the task of a checkpoint with its weights.

        Args:
            checkpoint_path: the file.
            changed: arguments of Lightning's `load_from_checkpoint`, such as `map_location`; and of
                the constructor, which replace the stored ones.

        Raises:
            ValueError: when the network or another argument is neither stored nor given.
        """
        stored = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        arguments = constructor_arguments(stored.get(CONFIG_KEY, ""), changed)
        return super().load_from_checkpoint(os.fspath(checkpoint_path), **{**arguments, **changed})

    def setup(self, stage: str) -> None:
        """Load pretrained weights, if any, before those of a checkpoint to resume from.

        The network is compiled, if that is asked for, at its first call. Batch normalisation in
        training uses the nodes of all processes.
        """
        if stage == "fit" and self.pretrained is not None:
            load_pretrained(self.network, self.pretrained)
        if self.compile_network:
            self.network.compile(dynamic=True)
        if stage == "fit":
            share_statistics(self.network, data_parallel(self), lambda: self._is_padding)

    def teardown(self, stage: str) -> None:
        """Let batch normalisation use the nodes of this process alone."""
        unshare_statistics(self.network)

    def configure_model(self) -> None:
        """Add adapters, if any, and shard the parameters under Lightning's ModelParallelStrategy.

        This runs after pretrained weights are loaded, and before those of a checkpoint are.

        Raises:
            ValueError: when the strategy divides tensors among processes.
        """
        if self.lora is not None and not self._adapter:
            self._adapter = (add_lora(self.network, self.lora),)
        if self._trainer is not None and self._trainer.precision == "64-true":
            self.double()  # Lightning (2.6) does so after loading a checkpoint, which rounds it
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            if self.device_mesh["tensor_parallel"].size() > 1:
                raise ValueError(
                    f"tensor_parallel_size: got {self.device_mesh['tensor_parallel'].size()}, "
                    "expected 1, because layers are sharded by data parallelism only; set it to 1 "
                    "and data_parallel_size to the number of processes"
                )
            shard_parameters(self, self.device_mesh["data_parallel"], _STEPS)
            save_atomically(self.trainer.strategy)

    def save_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write adapters and head in peft's format; all processes must call this, the first writes.

        Raises:
            ValueError: when the task has no adapters.
        """
        state = full_tensors(self._require_adapter().state_dict())
        if process_ranks()[0] == 0:
            self._require_adapter().save_pretrained(os.fspath(folder), state_dict=state)

    def merge_adapter(self) -> nn.Module:
        """Merge the adapters into the network's weights and return the network without them.

        Raises:
            ValueError: when the task has no adapters.
        """
        self.network = merge_lora(self._require_adapter())
        self._adapter, self.lora = (), None
        return self.network

    def _require_adapter(self) -> Any:
        if not self._adapter:
            raise ValueError("lora: got None, expected settings of adapters; set lora and train")
        return self._adapter[0]

    def forward(self, batch: BatchLike) -> Tensor:
        """Compute the network's output, [N, K] or [B, K]."""
        output: Tensor = self.network(batch, self.adjacency(batch))
        return output

    def predict_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the network's output, [N, K] or [B, K]."""
        return self(batch)

    def on_train_start(self) -> None:
        """Use a changed `lr`; repeat the first epoch's batches if the trainer overfits batches."""
        if self.trainer.global_step == 0:  # otherwise the rates are the checkpoint's
            for config in self.trainer.lr_scheduler_configs:
                if isinstance(config.scheduler, LambdaLR):
                    follow_lr(config.scheduler, self.lr)
        if self.trainer.overfit_batches:  # type: ignore[attr-defined]
            for loader in tree_leaves(self.trainer.train_dataloader):
                if isinstance(loader, BatchLoader):
                    loader.sampler.fixed = True

    def on_train_batch_start(self, batch: BatchLike, batch_idx: int) -> int | None:
        """Note whether the batch is padding, which has no weight in the loss."""
        self._is_padding = is_padding(batch)
        return None

    def _apply_batch_transfer_handler(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        # Lightning converts collections of tensors to a `-true` precision, but not PyG's `Data`.
        # A public hook would replace that of a data module.
        batch = super()._apply_batch_transfer_handler(batch, device, dataloader_idx)
        dtype = _TRUE_PRECISIONS.get(str(self.trainer.precision))
        if dtype is None or not isinstance(batch, Data):
            return batch
        return convert_floats(batch, dtype)

    def add_metrics(self, metrics: Mapping[str, Metric]) -> None:
        """Create the metrics of validation and test, logged as `val/NAME` and `test/NAME`."""
        self.val_metrics = nn.ModuleDict(metrics)
        self.test_metrics = nn.ModuleDict({name: m.clone() for name, m in metrics.items()})

    def metrics_of(self, stage: Stage) -> dict[str, Metric]:
        """Return the metrics of a stage by their name, without the stage."""
        return dict(getattr(self, f"{stage}_metrics").items())

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return what a batch adds to the metrics, and its number of rows.

        Returns:
            The arguments of `update` by metric, for the metrics that are defined for this data;
            and the weight of the batch where Lightning averages over batches.
        """
        raise NotImplementedError(f"{type(self).__name__} must define evaluate()")

    def validation_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update and log the validation metrics of a loader."""
        self._update_metrics(batch, batch_idx, "val", dataloader_idx)

    def test_step(self, batch: BatchLike, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update and log the test metrics of a loader."""
        self._update_metrics(batch, batch_idx, "test", dataloader_idx)

    def _update_metrics(self, batch: BatchLike, batch_idx: int, stage: Stage, loader: int) -> None:
        """Log as `val/NAME` for the first loader, `val/NAME/dataloader_idx_1` for the next."""
        updates, rows = self.evaluate(batch, batch_idx, stage)
        suffix = f"/dataloader_idx_{loader}" if loader else ""
        for name, arguments in updates.items():
            metric = self._metric_of_loader(stage, name, loader)
            update_metric(metric, arguments, is_padding=is_padding(batch))
            copy_name = f"{stage}_metrics_of_loader_{loader}.{name}" if loader else None
            self.log(
                f"{stage}/{name}{suffix}",
                metric,
                prog_bar=True,
                batch_size=rows,
                add_dataloader_idx=False,
                metric_attribute=copy_name,
            )

    def _metric_of_loader(self, stage: Stage, name: str, loader: int) -> Metric:
        """Return the metric of a loader; those after the first have copies of their own."""
        if loader == 0:
            return self.metrics_of(stage)[name]
        attribute = f"{stage}_metrics_of_loader_{loader}"
        if not hasattr(self, attribute):
            copies = {name: metric.clone() for name, metric in self.metrics_of(stage).items()}
            for metric in copies.values():
                metric.reset()
            setattr(self, attribute, nn.ModuleDict(copies))
        found: Metric = getattr(self, attribute)[name]
        return found

    def sum_over_ranks(self, x: Tensor) -> Tensor:
        """Return the sum over all ranks of a tensor of the training batch, padding left out."""
        (total,) = data_parallel(self).sum(torch.zeros_like(x) if self._is_padding else x)
        return total

    def training_loss(self, total: Tensor, count: Tensor, *, rows: int) -> Tensor:
        """Return the loss of a batch, [], and log its mean over the batches of all ranks.

        The gradients of a step add up to that of one mean over all labels of its batches, by all
        ranks: all of them are divided by the number of labels of the first batches of all ranks,
        which `on_before_optimizer_step` corrects.

        Args:
            total: sum of the loss over labels, [].
            count: number of labels, or the sum of their weights, [].
            rows: weight of the batch where Lightning averages over batches.
        """
        ranks = data_parallel(self)
        if self._is_padding:
            total, count = 0 * total, torch.zeros_like(count)
        all_total, all_count = ranks.sum(total, count)
        mean = all_total / nonzero(all_count)
        self.log("train/loss", mean, prog_bar=True, batch_size=rows)
        self._label_counts.append(all_count)
        loss = total / nonzero(self._label_counts[0])
        return loss if ranks.size == 1 else loss * ranks.size  # the ranks' gradients are averaged

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Rescale the accumulated gradient to that of one mean over all accumulated labels."""
        accumulated = self.trainer.accumulate_grad_batches
        if accumulated > 1:
            first = nonzero(self._label_counts[0])
            # Lightning has divided each loss by `accumulated`.
            factor = accumulated * first / nonzero(torch.stack(self._label_counts).sum())
            scale_gradients(self.parameters(), factor)
        self._label_counts.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create the optimiser and a schedule that advances with every step.

        Raises:
            ValueError: when the schedule needs a last step and the trainer has none.
        """
        total_steps = self.trainer.estimated_stepping_batches
        if self.schedule != "constant" and math.isinf(total_steps):
            raise ValueError(
                f"schedule: got {self.schedule!r} and a trainer without a last step, expected "
                "max_steps or max_epochs; set one of them, or schedule='constant'"
            )
        optimizer = self.make_optimizer()
        if self.trainer.precision == "bf16-mixed":
            # Lightning refuses to clip if a fused step unscales gradients; bfloat16 has no scaler.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
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

    def make_optimizer(self) -> Optimizer:
        """Return the optimiser of the trained parameters."""
        decayed = self.layer_decay != 1.0
        return make_optimizer(
            self,
            self.optimizer_name,
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=self.betas,
            lr_factors=layer_lr_factors(self.network, self.layer_decay) if decayed else None,
            fused=self.trainer.precision != "16-mixed",  # its loss scaler unscales the gradient
        )
