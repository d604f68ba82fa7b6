"""Patterns of text: documents packed into a sample, and prefixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphformer import adjacency
from graphformer.adjacency import Adjacency
from graphformer.adjacency.prefix import Prefix as PrefixRule
from graphformer.patterns.base import Pattern, cached_adjacency
from graphformer.patterns.fields import lengths, require_field

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


@dataclass(frozen=True)
class Documents(Pattern):
    """Every token attends to the tokens of its own document within a sample.

    `Causal() & Documents()` is GPT's adjacency for documents packed into blocks. With edges it is
    K-BERT's visible matrix: the first document is the sentence, the others are facts, each
    connected by edges to the word it is about (Liu et al., 2020, section 3.4).
    """

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the complete graph over each document; reads `batch.documents`, their lengths."""
        documents = require_field(batch, "documents", "the pattern Documents reads their lengths")
        return cached_adjacency(adjacency.complete, tuple(map(int, documents)))


@dataclass(frozen=True)
class Prefix(Pattern):
    """Every token attends to its text's prefix and to the tokens before it: a prefix LM.

    Attention within the prefix is bidirectional, in the rest causal (Raffel et al., 2020,
    section 3.2.1).
    """

    def __call__(self, batch: BatchLike) -> Adjacency:
        """Return the prefix rule over each sample; reads `batch.prefix_lengths`."""
        field = require_field(batch, "prefix_lengths", "the pattern Prefix reads them")
        sizes, prefixes = lengths(batch), tuple(map(int, field))
        if len(prefixes) != len(sizes):
            raise ValueError(
                f"batch.prefix_lengths: got {len(prefixes)} lengths, expected {len(sizes)}; give "
                "one for each text"
            )
        return cached_adjacency(PrefixRule, tuple(zip(sizes, prefixes, strict=True)))
