"""`ClozeClassification`: classes by the word in a gap (PET); soft labels of several patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern
from graphformer.tasks.class_weights import ClassWeights
from graphformer.tasks.classification import Classification, MetricName
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.text.masked_language import logits_at


class ClozeClassification(Classification):
    """Cross-entropy over the words of the classes, predicted by a language model.

    The logits of a text are those of the words in the gap of its template, so that a language model
    classifies without new weights. Data is `ClozeText`. Metrics are those of `Classification`.

    Args:
        network: a masked language model or a decoder: logits over the vocabulary, [N, V].
        adjacency: pattern of the edges of attention; causal for a decoder.
        num_classes: K.
        metrics, label_smoothing, class_weights: as of `Classification`.
        options: those of `Task`.

    Source: Schick and Schuetze, 2021, "Exploiting Cloze Questions" (PET), section 3.1, without the
    auxiliary language modelling.
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Complete(),
        *,
        num_classes: int,
        metrics: Sequence[MetricName] = ("accuracy", "f1"),
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(
            network,
            adjacency,
            num_classes=num_classes,
            level="graph",
            metrics=metrics,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            **options,
        )

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the logits of the words of the classes, [B, K].

        Raises:
            ValueError: when the batch has no `answer_nodes` and `answer_ids`.
        """
        nodes, ids = (getattr(batch, name, None) for name in ("answer_nodes", "answer_ids"))
        if nodes is None or ids is None:
            raise ValueError(
                "batch: got no answer_nodes or answer_ids, expected the gap of each text and the "
                "tokens of its words; use the data ClozeText"
            )
        return logits_at(self.network, batch, self.adjacency(batch), nodes).gather(1, ids)


def soft_labels(
    logits: Sequence[Tensor], weights: Sequence[float] | None = None, temperature: float = 2.0
) -> Tensor:
    """Return softmax(sum_p w_p s_p / (T sum_p w_p)), the soft labels of an ensemble, [B, K].

    Args:
        logits: s_p of each pattern, [B, K].
        weights: w_p, such as the accuracy of each pattern before training; by default all equal.
        temperature: T; above 1 the labels are less certain.

    Raises:
        ValueError: when there are no logits or their shapes differ, when weights are negative or
            all 0, or when the temperature is not above 0.

    Source: Schick and Schuetze, 2021, "Exploiting Cloze Questions", section 3.2.
    """
    shares = [1.0] * len(logits) if weights is None else list(weights)
    is_valid = all(0 <= share < math.inf for share in shares) and sum(shares) > 0
    if not logits or len(shares) != len(logits) or not is_valid:
        raise ValueError(
            f"weights: got {shares} for the logits of {len(logits)} patterns, expected as many "
            "numbers of at least 0, one of them above 0"
        )
    sizes = [tuple(s.shape) for s in logits]
    if len(set(sizes)) > 1:
        raise ValueError(f"logits: got {sizes}, expected one shape [B, K] of all patterns")
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, expected a number above 0")
    rows = torch.stack([s.double() for s in logits])
    share = rows.new_tensor(shares) / sum(shares)
    return (torch.einsum("p,pbk->bk", share, rows) / temperature).softmax(-1)
