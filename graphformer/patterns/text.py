"""Patterns of text: what is a rule over tokens that no other modality has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.adjacency.prefix import Prefix as PrefixRule
from graphformer.patterns.base import Pattern, lengths, rule, wanted


@dataclass(frozen=True)
class Documents(Pattern):
    """Every token attends to those of its own document, or of its own branch of a text.

    `Causal() & Documents()` is GPT's over documents that are packed into blocks. Together with
    edges it is K-BERT's visible matrix: the first "document" is the sentence, the others are the
    facts, each tied by edges to what it is about (Liu et al., 2020, section 3.4).
    """

    def __call__(self, batch: Any) -> Adjacency:
        """Return the complete graph over each document; wants `batch.documents`, their lengths."""
        return rule(adjacency.complete, tuple(map(int, wanted(batch, "documents", "Documents"))))


@dataclass(frozen=True)
class Prefix(Pattern):
    """Every token attends to its text's prefix and to what precedes it: a prefix LM.

    The prefix reads itself in both directions, the rest is written from left to right (Raffel et
    al., 2020, section 3.2.1).
    """

    def __call__(self, batch: Any) -> Adjacency:
        """Return the rule over each sample; wants `batch.prefix_lengths`."""
        sizes, prefixes = lengths(batch), tuple(map(int, wanted(batch, "prefix_lengths", "Prefix")))
        if len(prefixes) != len(sizes):
            raise ValueError(
                f"batch.prefix_lengths must name each of the {len(sizes)} texts, got "
                f"{len(prefixes)}"
            )
        return rule(PrefixRule, tuple(zip(sizes, prefixes, strict=True)))
