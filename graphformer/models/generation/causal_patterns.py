"""Patterns in generation: which allow a key-value cache, and the options that follow from them."""

from __future__ import annotations

import torch
from torch import nn
from typing_extensions import TypedDict

from graphformer.data.batch import BatchLike, pack_tokens
from graphformer.models.base import Patterns
from graphformer.models.generation.prompts import max_length
from graphformer.nn import ContentKVCache, KVCache
from graphformer.patterns import (
    Causal,
    ContentPattern,
    Documents,
    Intersection,
    Pattern,
    PerLayer,
    Prefix,
    Window,
)

_PROBE_LENGTH = 257
"""Length of the text on which a pattern is tested for edges to later tokens."""


class DecodingOptions(TypedDict):
    """The options of `generate` that depend on how the network was trained."""

    adjacency: Patterns
    context: int | None
    cache: bool


def decoding_options(network: nn.Module, pattern: Patterns) -> DecodingOptions:
    """Return the options of `generate` for a network and the pattern it was trained with.

    Args:
        network: a `Model`, or a network that reads no adjacency.
        pattern: for all blocks, or one per block.

    Raises:
        ValueError: when the pattern has edges to later tokens.
    """
    patterns = per_block(pattern)
    several = [patterns] if isinstance(patterns, Pattern) else patterns
    attends = hasattr(network, "transformer")
    probe = pack_tokens([[0] * _PROBE_LENGTH], device=torch.device("cpu"))
    probe.prefix_lengths, probe.documents = (0,), probe.lengths
    for each in several if attends else ():
        if _attends_later(each, probe):
            raise ValueError(
                f"adjacency: got {each}, in which tokens attend to later ones, expected a causal "
                "pattern for generation; train with one, such as Causal"
            )
    cache = attends and all(map(is_cacheable, several))
    return {"adjacency": patterns, "context": max_length(network), "cache": cache}


def _attends_later(pattern: Pattern, probe: BatchLike) -> bool:
    """Whether a pattern has edges to later nodes."""
    if isinstance(pattern, ContentPattern):
        return not pattern.causal
    source, target = pattern(probe).edge_index
    return bool((source > target).any())


def self_attention_cache(pattern: Pattern, lengths: tuple[int, ...]) -> KVCache:
    """Return the cache of a self-attention over a pattern, for prompts of some lengths.

    Raises:
        ValueError: when the pattern cannot be decoded with a cache.
    """
    if isinstance(pattern, ContentPattern) and pattern.causal:
        return ContentKVCache(lengths, pattern)
    return KVCache(lengths, window=attention_span(pattern))


def per_block(pattern: Patterns) -> Patterns:
    """Return the pattern, or the patterns of a `PerLayer`, one per block."""
    return pattern.patterns if isinstance(pattern, PerLayer) else pattern


def attention_span(pattern: Pattern) -> int | None:
    """Return the number of last tokens that a token attends to, with itself; None for all.

    Raises:
        ValueError: when the pattern is not described by such a number.
    """
    if isinstance(pattern, Causal | Prefix):
        return None
    if isinstance(pattern, Window) and pattern.causal:
        return pattern.radius + 1
    if isinstance(pattern, Intersection):  # a generated text is one document
        parts = [part for part in pattern.patterns if not isinstance(part, Documents)]
        if parts:
            spans = map(attention_span, parts)
            return min((span for span in spans if span is not None), default=None)
    raise ValueError(
        f"adjacency: got {pattern}, which cannot be decoded with a cache, expected Causal, Prefix, "
        "a causal Window or a causal pattern made from content; choose one of these, or pass "
        "cache=False"
    )


def is_cacheable(pattern: Pattern) -> bool:
    """Whether the pattern can be decoded with a key-value cache."""
    try:
        self_attention_cache(pattern, ())
    except ValueError:
        return False
    return True
