"""`DirectPreference`: preference optimisation without a reward model: DPO and its relatives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.distributed.mesh import data_parallel
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.post_training.log_probs import (
    answer_samples,
    mean_by_sample,
    sum_by_sample,
)
from graphformer.tasks.post_training.losses.by_name import TARGET_MARGIN, LossName, PreferenceLoss
from graphformer.tasks.post_training.losses.preference import kto_kl
from graphformer.tasks.post_training.mismatched import rotate_answers
from graphformer.tasks.post_training.reference import (
    CachedReference,
    FrozenReference,
    Reference,
    answer_log_probs,
    cache_key,
)

METRICS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
           "logps/chosen", "logps/rejected")  # fmt: skip


class DirectPreference(Task):
    """The mean of a preference loss over pairs; see `losses.preference` for the formulas.

    The batches are those of `PreferenceFile`. Policy and reference are evaluated without dropout.
    Logged by pair: implicit rewards beta (log pi - log pi0), their margins and accuracies, and log
    pi of the answers (`logps`), as sums or means over tokens as in the loss.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention; causal.
        loss: "sigmoid" (DPO), "hinge", "ipo", "length_normalized", or without a reference "simpo"
            or "orpo"; or "kto", to which chosen answers are desirable and rejected ones are not.
        beta: inverse strength of the constraint to the reference.
        label_smoothing: of "sigmoid" and "length_normalized": share of pairs that are swapped.
        target_margin: gamma of "simpo".
        reference_cache: folder of log-probabilities of the reference, computed before training;
            None keeps a frozen copy of the trained weights instead.
        options: those of `Task`.

    Raises:
        ValueError: when the loss is unknown, a setting is out of its range or of another loss, or
            `reference_cache` is set for a loss that cannot use it.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        loss: LossName = "sigmoid",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        target_margin: float = TARGET_MARGIN,
        reference_cache: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.loss = PreferenceLoss(loss, beta, label_smoothing, target_margin)
        if reference_cache is not None and (loss == "kto" or not self.loss.needs_reference):
            reason = (
                "the mismatched answers of KTO differ from batch to batch"
                if loss == "kto"
                else "the loss has no reference"
            )
            raise ValueError(
                f"reference_cache: got a folder for loss {loss!r}, expected None; {reason}"
            )
        self.reference_cache = reference_cache
        self.reference: Reference | None = None
        self._cache_key: str | None = None
        self.add_metrics({name: Mean() for name in ("loss", *METRICS)})

    def configure_model(self) -> None:
        """Add adapters, if any, and keep the reference, before the weights of a checkpoint."""
        super().configure_model()
        needs_copy = self.loss.needs_reference and self.reference_cache is None
        if needs_copy and self.reference is None:
            self.reference = FrozenReference(self.network)

    def on_fit_start(self) -> None:
        """Compute the cached log-probabilities of the reference, if asked for."""
        if self.reference_cache is None:
            return
        if self._cache_key is None:  # a resumed run has other weights
            self._cache_key = cache_key(self.network, self.adjacency)
            cache = CachedReference(self.reference_cache, self._cache_key)
            ranks = data_parallel(self)
            cache.fill(self.network, self._all_batches(), self.adjacency, ranks=ranks)
            self.reference = cache

    def _all_batches(self) -> Iterator[BatchLike]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return chain(data.train_dataloader(), data.val_dataloader())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the name of the cache of the reference."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["reference_cache_key"] = self._cache_key

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the name of the cache of the reference."""
        self._cache_key = checkpoint.get("reference_cache_key")

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over pairs, []."""
        values, metrics = self._values(batch)
        rows = len(lengths(batch)) // 2
        for name, value in metrics.items():
            self.log(f"train/{name}", value.mean().detach(), batch_size=rows)
        count = torch.tensor(len(values), device=values.device)
        return self.training_loss(values.sum(), count, rows=rows)

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return sums over the pairs, and their number."""
        values, metrics = self._values(batch)
        results = {"loss": values, **metrics}
        counts = {name: torch.tensor(len(v), device=v.device) for name, v in results.items()}
        return {n: (v.sum(), counts[n]) for n, v in results.items()}, len(lengths(batch)) // 2

    def _values(self, batch: BatchLike) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the losses, and the metrics of each pair, [P]."""
        log_p = answer_log_probs(self.network, batch, self.adjacency)
        policy = self._by_answer(log_p, batch)
        reference = torch.zeros_like(policy)
        if self.loss.needs_reference:
            reference = self._by_answer(self._reference_log_probs(batch), batch)
        ratios = policy - reference
        chosen, rejected = (self.loss.beta * ratios.detach()).unbind(1)
        metrics = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "logps/chosen": policy.detach()[:, 0],
            "logps/rejected": policy.detach()[:, 1],
        }
        kl = self._kto_kl(batch) if self.loss.name == "kto" else None
        return self.loss(policy, ratios, kl), metrics

    def _by_answer(self, log_p: Tensor, batch: BatchLike) -> Tensor:
        """Return sums, or means, of chosen and rejected answers, [P, 2], from tokens [T]."""
        reduce = mean_by_sample if self.loss.is_per_token else sum_by_sample
        return reduce(log_p, answer_samples(batch), len(lengths(batch))).view(-1, 2)

    def _reference_log_probs(self, batch: BatchLike) -> Tensor:
        if self.reference is None:
            if self.reference_cache is None or self._cache_key is None:
                raise ValueError(
                    "reference_cache: got a folder and a run that has not been trained, expected "
                    "a checkpoint of one; run fit first"
                )
            self.reference = CachedReference(self.reference_cache, self._cache_key)
        return self.reference.log_probs(self.network, batch, self.adjacency)

    @torch.no_grad()
    def _kto_kl(self, batch: BatchLike) -> Tensor:
        """Return the reference point of KTO, [], from answers to other prompts."""
        other = rotate_answers(batch)
        log_p = answer_log_probs(self.network, other, self.adjacency)
        ratios = self._by_answer(log_p - self._reference_log_probs(other), other)
        return kto_kl(ratios.flatten())
