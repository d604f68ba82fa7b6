"""`Prediction`: classes and probabilities of new inputs, or the values of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """The output of a trained model, a row for each input, or for each node.

    Attributes:
        output: of the network, [rows, K]: logits (divided by the temperature of `graphformer
            trust`, if one was fitted), or the values of a regression; of links the logits [P].
        probabilities: of each class, [rows, K]; of links that there is an edge, [P]; else None.
        classes: the most probable class of each row, by name if classes have names, else its
            number; after `MultiLabelClassification` a list of labels; None without classes.
    """

    output: Tensor
    probabilities: Tensor | None = None
    classes: list[str] | list[int] | list[list[str]] | list[list[int]] | None = None

    def __len__(self) -> int:
        return len(self.output)


def of_classes(logits: Tensor, names: Sequence[str] | None) -> Prediction:
    """Return the prediction of logits [rows, K].

    Args:
        logits: of the classes.
        names: of the K classes; None for numbers.
    """
    probabilities = logits.double().softmax(-1).to(torch.float32)
    best: list[int] = logits.argmax(-1).tolist()
    classes = best if names is None else [names[number] for number in best]
    return Prediction(logits, probabilities, classes)


def of_labels(logits: Tensor, names: Sequence[str] | None, threshold: float) -> Prediction:
    """Return the prediction of logits [rows, K] of independent labels.

    Args:
        logits: of the labels.
        names: of the K labels; None for numbers.
        threshold: probability from which a label is predicted.
    """
    probabilities = logits.double().sigmoid()
    chosen = [row.nonzero()[:, 0].tolist() for row in probabilities >= threshold]
    if names is None:
        return Prediction(logits, probabilities.float(), chosen)
    named = [[names[number] for number in row] for row in chosen]
    return Prediction(logits, probabilities.float(), named)
