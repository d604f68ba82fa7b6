"""Metrics: means over labels, perplexity and bits, and scores of generated answers."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Mean over labels, from sums over batches.

    torchmetrics' `MeanMetric` (1.9) either synchronises with the device at every batch, to check
    for NaN, or ignores the weights (`nan_strategy="disable"`).
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add the sum over the labels of a batch, [], and their number, []."""
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean, []; NaN without a label."""
        return self.total / self.count


class Perplexity(Mean):
    """The exponential of the mean loss in nats."""

    def compute(self) -> Tensor:
        """Return the perplexity, []."""
        return super().compute().exp()


class BitsPerCharacter(Mean):
    """The mean loss per token in bits, divided by the mean number of characters per token.

    Args:
        characters_per_token: that number.
    """

    def __init__(self, characters_per_token: float) -> None:
        super().__init__()
        self.characters_per_token = characters_per_token

    def compute(self) -> Tensor:
        """Return the bits per character, []."""
        return super().compute() / (math.log(2) * self.characters_per_token)


class BitsPerByte(Mean):
    """The mean loss per token in bits, divided by the mean number of UTF-8 bytes per token.

    Attributes:
        bytes_per_token: that number; None while it is unknown.
    """

    bytes_per_token: float | None = None

    def compute(self) -> Tensor:
        """Return the bits per byte, []; NaN while `bytes_per_token` is unknown."""
        return super().compute() / (math.log(2) * (self.bytes_per_token or math.nan))


def update_metric(metric: Metric, arguments: tuple[Tensor, ...], *, is_padding: bool) -> None:
    """Update a metric with a batch; a batch that is padding or has no rows does not count.

    Part of a divided graph may have no node of a split, for which torchmetrics (1.9) raises an
    error.
    """
    is_empty = any(isinstance(x, Tensor) and x.ndim and not len(x) for x in arguments)
    if is_empty:
        arguments = tuple(x.new_zeros(1, *x.shape[1:]) if x.ndim else x for x in arguments)
    if is_empty or is_padding:
        update_uncounted(metric, arguments)
    else:
        metric.update(*arguments)


def update_uncounted(metric: Metric, arguments: tuple[Tensor, ...]) -> None:
    """Update a metric with samples that do not count, as those of a batch that is padding.

    Its states get the dtypes that an update gives them, and those that are lists of tensors one
    without rows: torchmetrics (1.9) cannot gather states of other types or numbers of dimensions.
    """
    before = {
        name: list(state) if isinstance(state, list) else state.clone()
        for name, state in metric.metric_state.items()
    }
    metric.update(*arguments)
    for name, state in before.items():
        updated = getattr(metric, name)
        if isinstance(state, list):
            setattr(metric, name, state + [rows[:0] for rows in updated[len(state) :]])
        else:
            setattr(metric, name, state.to(updated.dtype))


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_IN_NUMBERS = r"(?<=\d)[-.,:/^*](?=\d)|(?<![\w.])\.(?=\d)|(?<![\w)])-(?=\$?\.?\d)"
_PUNCTUATION = re.compile(f"(?!{_IN_NUMBERS})[{re.escape(string.punctuation)}]")


def normalize_answer(text: str) -> str:
    """Return a text in lower case, without punctuation, articles and repeated white space.

    Unlike in SQuAD's script, the signs, points and operators of numbers are kept, so that "-5" and
    "1.5" differ from "5" and "15"; commas between thousands are removed.

    Source: Rajpurkar et al., 2016 (SQuAD), evaluation script.
    """
    plain = _THOUSANDS.sub("", text.lower().replace("\N{MINUS SIGN}", "-"))
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", plain)).split())


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the normalised texts are equal, else 0."""
    return float(normalize_answer(answer) == normalize_answer(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words.

    Source: Rajpurkar et al., 2016 (SQuAD), section 6.1.
    """
    words, expected = normalize_answer(answer).split(), normalize_answer(reference).split()
    shared = sum((Counter(words) & Counter(expected)).values())
    if not shared:
        return float(words == expected)
    return 2 * shared / (len(words) + len(expected))


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus BLEU of answers with one reference each, from 0 to 100.

    Raises:
        ModuleNotFoundError: when sacrebleu is not installed.

    Source: Papineni et al., 2002; Post, 2018.
    """
    try:
        import sacrebleu
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "BLEU needs the package sacrebleu; install it with pip install 'graphformer[text]'"
        ) from None
    return float(sacrebleu.corpus_bleu(list(answers), [list(references)]).score)
