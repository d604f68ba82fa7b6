"""Means over labels, and what a language model's loss is usually told as."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Mean over labels of what comes as sums over batches.

    torchmetrics' `MeanMetric` either waits for the device at every batch, to look for NaN, or drops
    the weights (`nan_strategy="disable"`, version 1.9).
    """

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add a batch: the sum over its labels [], their number []."""
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """The mean, []; NaN without a label."""
        return self.total / self.count


class Perplexity(Mean):
    """exp of the mean loss in nats."""

    def compute(self) -> Tensor:
        """Perplexity, []."""
        return super().compute().exp()


class BitsPerCharacter(Mean):
    """The mean loss a token in bits, by the number of characters a token."""

    def __init__(self, characters_per_token: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.characters_per_token = characters_per_token

    def compute(self) -> Tensor:
        """Bits per character, []."""
        return super().compute() / (math.log(2) * self.characters_per_token)


class BitsPerByte(Mean):
    """The mean loss a token in bits, by the number of bytes of UTF-8 a token.

    `bytes_per_token` is None until somebody knows it; then there is no figure to show.
    """

    bytes_per_token: float | None = None

    def compute(self) -> Tensor:
        """Bits per byte, []; NaN if the length of a token is not known."""
        return super().compute() / (math.log(2) * (self.bytes_per_token or math.nan))


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_IN_NUMBERS = r"(?<=\d)[-.,:/^*](?=\d)|(?<![\w.])\.(?=\d)|(?<![\w)])-(?=\$?\.?\d)"
_PUNCTUATION = re.compile(f"(?!{_IN_NUMBERS})[{re.escape(string.punctuation)}]")


def normalize_answer(text: str) -> str:
    """Return a text in lower case, without punctuation, articles and superfluous blanks.

    Unlike in SQuAD's script, the signs, points and operators of numbers are kept, so that "-5" and
    "1.5" differ from "5" and "15"; commas between thousands are removed.

    Source: Rajpurkar et al., 2016 (SQuAD), evaluation script.
    """
    plain = _THOUSANDS.sub("", text.lower().replace("\N{MINUS SIGN}", "-"))
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", plain)).split())


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the texts have the same normal form, else 0."""
    return float(normalize_answer(answer) == normalize_answer(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words.

    Source: Rajpurkar et al., 2016 (SQuAD), section 6.1.
    """
    given, wanted = normalize_answer(answer).split(), normalize_answer(reference).split()
    shared = sum((Counter(given) & Counter(wanted)).values())
    if not shared:
        return float(given == wanted)
    return 2 * shared / (len(given) + len(wanted))


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus BLEU of answers with one reference each, from 0 to 100.

    Raises ModuleNotFoundError without sacrebleu. Source: Papineni et al., 2002; Post, 2018.
    """
    try:
        import sacrebleu
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "BLEU needs sacrebleu: install the extra, pip install 'graphformer[text]'"
        ) from None
    return float(sacrebleu.corpus_bleu(list(answers), [list(references)]).score)
