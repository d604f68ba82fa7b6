"""`ClassCounts`: precision, recall and F1 of each class, from the counts of a test."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MAX_CLASSES = 1000
"""More classes than these have no confusion matrix, whose size is their square."""


@dataclass(frozen=True)
class ClassCounts:
    """Counts of the K classes of a test, on the CPU.

    Attributes:
        true_positives, false_positives, false_negatives: of each class, int64 [K].
        confusion: row i, column j: how many samples of class i were predicted as j, int64 [K, K];
            None for labels that are predicted independently of one another.
    """

    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor
    confusion: Tensor | None = None

    @property
    def support(self) -> Tensor:
        """Number of samples of each class, int64 [K]."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> Tensor:
        """Share of a class's predictions that are right, [K]; NaN without predictions."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> Tensor:
        """Share of a class's samples that are found, [K]; NaN without samples."""
        return self.true_positives / self.support

    @property
    def f1(self) -> Tensor:
        """Harmonic mean of both, [K]; NaN without samples and predictions."""
        wrong = self.false_positives + self.false_negatives
        return 2 * self.true_positives / (2 * self.true_positives + wrong)


def of_confusion(confusion: Tensor) -> ClassCounts:
    """Return the counts of a confusion matrix [K, K], true classes by row."""
    confusion = confusion.cpu()
    right = confusion.diagonal()
    return ClassCounts(right, confusion.sum(0) - right, confusion.sum(1) - right, confusion)


def of_label_confusion(confusion: Tensor) -> ClassCounts:
    """Return the counts of one 2 x 2 matrix a label, [K, 2, 2]: true 0 and 1 by row."""
    confusion = confusion.cpu()
    return ClassCounts(confusion[:, 1, 1], confusion[:, 0, 1], confusion[:, 1, 0])
