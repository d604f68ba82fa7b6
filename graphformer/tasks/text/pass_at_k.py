"""pass@k: the probability that one of k sampled answers is right."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from graphformer.tasks.metrics import exact_match
from graphformer.tasks.text.few_shot import extract_answer

NUMBER = r"(?:(?<![\w)])-)?\d[\d,]*(?:\.\d+)?"
"""A number; a minus sign after a digit, as in 10-4, is an operator and not part of it."""


def pass_at_k(count: int, correct: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k), without bias from n samples of which c are right.

    Args:
        count: n.
        correct: c.
        k: number of answers that one has, at most n.

    Raises:
        ValueError: when k is not from 1 to n.

    Source: Chen et al., 2021, "Evaluating large language models trained on code", equation 1.
    """
    if not 1 <= k <= count:
        raise ValueError(f"pass_at: got {k}, expected 1 to {count}, the number of samples")
    wrong = 1.0
    for size in range(count - correct + 1, count + 1):
        wrong *= max(0.0, 1 - k / size)
    return 1 - wrong


def is_correct(answer: str, reference: str, extract: str | None) -> bool:
    """Whether an answer, or what a pattern extracts from it, equals the reference.

    Args:
        answer, reference: texts.
        extract: regular expression, see `extract_answer`; None compares whole texts.

    Raises:
        ValueError: when it is not a regular expression.
    """
    found, expected = extract_answer(answer, extract), extract_answer(reference, extract)
    return found is not None and bool(exact_match(found, expected or reference))


def same_number(answer: str, reference: str) -> bool:
    """Whether the last numbers of two texts are equal: 18.00 and 18, or 1,000 and 1000.

    Args:
        answer, reference: texts; a text without a number equals none.
    """
    found, expected = (extract_answer(text, NUMBER) for text in (answer, reference))
    if found is None or expected is None:
        return False
    return Decimal(found.replace(",", "")) == Decimal(expected.replace(",", ""))


def evaluate_samples(
    samples: Sequence[Sequence[str]],
    references: Sequence[str],
    ks: Sequence[int],
    *,
    extract: str | None = None,
) -> dict[str, float]:
    """Return "pass@k" for each k, the mean over questions.

    Args:
        samples: answers to all questions, n times.
        references: of the questions.
        ks: each k.
        extract: see `is_correct`.

    Raises:
        ValueError: when a k is larger than n.
    """
    counts = [
        sum(is_correct(answer, reference, extract) for answer in answers)
        for answers, reference in zip(zip(*samples, strict=True), references, strict=True)
    ]
    number = max(1, len(counts))
    return {f"pass@{k}": sum(pass_at_k(len(samples), c, k) for c in counts) / number for k in ks}
