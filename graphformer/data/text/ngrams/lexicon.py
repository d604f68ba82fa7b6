"""Lexicons of n-grams by mutual information, and where their n-grams occur in a text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

Ngram = tuple[int, ...]


def count_ngrams(rows: Iterable[np.ndarray], max_length: int) -> list[Counter[Ngram]]:
    """Return the counts of the n-grams of token ids for n = 1 .. max_length."""
    counts: list[Counter[Ngram]] = [Counter() for _ in range(max_length)]
    for row in rows:
        ids = row.tolist()
        for n, counter in enumerate(counts, 1):
            counter.update(zip(*(ids[i:] for i in range(n)), strict=False))
    return counts


def ngram_lexicon(
    rows: Iterable[np.ndarray],
    *,
    max_length: int,
    min_count: int,
    min_information: float,
    max_ngrams: int,
) -> list[Ngram]:
    """Return the n-grams of two tokens or more that are frequent and whose parts belong together.

    The pointwise mutual information of an n-gram is log p(ab) / (p(a) p(b)) for its two parts a and
    b, the smallest over all places where it can be divided; p is a share of the n-grams of the same
    length.

    Args:
        rows: token ids of each text.
        max_length: the longest n.
        min_count: how often an n-gram occurs at least.
        min_information: its mutual information, at least, in nats.
        max_ngrams: only as many, the most frequent ones.

    Returns:
        The n-grams by falling count, then by ids.

    Raises:
        ValueError: when a limit is too small.

    Source: Diao et al., 2020 (ZEN); Song et al., 2021 (ZEN 2.0), lexicon by mutual information.
    """
    if max_length < 2 or min_count < 1 or max_ngrams < 1:
        raise ValueError(
            f"max_ngram_length, min_count, max_ngrams: got {max_length}, {min_count} and "
            f"{max_ngrams}, expected at least 2, 1 and 1"
        )
    counts = count_ngrams(rows, max_length)
    totals = [sum(counter.values()) for counter in counts]

    def log_share(ngram: Ngram) -> float:
        n = len(ngram) - 1
        return math.log(counts[n][ngram] / totals[n])

    found = []
    for counter in counts[1:]:
        for ngram, count in counter.items():
            if count < min_count:
                continue
            parts = max(log_share(ngram[:i]) + log_share(ngram[i:]) for i in range(1, len(ngram)))
            if log_share(ngram) - parts >= min_information:
                found.append((-count, ngram))
    return [ngram for _, ngram in sorted(found)[:max_ngrams]]


class NgramMatcher:
    """Finds the n-grams of a lexicon in texts.

    Args:
        lexicon: token ids of each n-gram.
    """

    def __init__(self, lexicon: Sequence[Ngram]) -> None:
        self.number = {ngram: i for i, ngram in enumerate(lexicon)}
        self.lengths = sorted({len(ngram) for ngram in lexicon})

    def __call__(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the n-grams of a text, each once, and the tokens that they contain.

        Args:
            row: token ids, [n].

        Returns:
            Numbers of K n-grams in the order of their first token, then by length, [K]; their first
            tokens, [K]; and edges, token and position among the K, [2, E].
        """
        ids = row.tolist()
        found: dict[int, int] = {}  # number of the n-gram -> position among the K
        first, edges = [], []
        for start in range(len(ids)):
            for n in self.lengths:
                number = self.number.get(tuple(ids[start : start + n]))
                if number is None or start + n > len(ids):  # a slice at the end is shorter
                    continue
                if number not in found:
                    found[number] = len(found)
                    first.append(start)
                edges += [(start + i, found[number]) for i in range(n)]
        unique = np.unique(np.array(edges, np.int64).reshape(-1, 2), axis=0)
        return np.array(list(found), np.int64), np.array(first, np.int64), unique.T
