"""Prompts as lists of token ids, and whether a model can go on from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from torch import Tensor, nn

from graphformer.nn import Positions

Prompts = Sequence[int] | Tensor | Sequence[Sequence[int]] | Sequence[Tensor]
"""Token ids of one text, or of several."""


def as_token_lists(prompts: Prompts) -> tuple[list[list[int]], bool]:
    """The prompts as lists of ids, and whether there are several.

    Raises ValueError for an empty prompt.
    """
    listed: list[Any] = [x.tolist() if isinstance(x, Tensor) else x for x in prompts]
    several = bool(listed) and not isinstance(listed[0], int)
    texts = [list(text) for text in listed] if several else [listed]
    if not all(texts):
        raise ValueError("prompts must each hold at least one token, got an empty one")
    return texts, several


def seed_keys(
    texts: Sequence[Sequence[int]], sources: Sequence[int] | None = None
) -> list[tuple[int, int, int]]:
    """Numbers that tell a text from others, in whatever batch it is: for its draws.

    They are those of its tokens, of its source, and how many equal texts come before it.
    """
    seen: Counter[tuple[int, int]] = Counter()
    marks = []
    for number, text in enumerate(texts):
        own = crc32(np.array(text, np.int64).tobytes()), 0 if sources is None else sources[number]
        marks.append((*own, seen[own]))
        seen[own] += 1
    return marks


def check_token_ids(network: nn.Module, texts: list[list[int]]) -> None:
    """Raise ValueError for ids that the network's embedding of tokens does not know."""
    tokens = getattr(getattr(network, "embedding", None), "features", None)
    if isinstance(tokens, nn.Embedding):
        for number in (min(map(min, texts)), max(map(max, texts))):
            if not 0 <= number < tokens.num_embeddings:
                raise ValueError(
                    f"prompts hold the id {number}, but the model knows 0 to "
                    f"{tokens.num_embeddings - 1}: encode them with its own tokenizer"
                )


def check_length(
    network: nn.Module, texts: list[list[int]], count: int, context: int | None
) -> None:
    """Raise ValueError for texts that grow longer than positions were learned."""
    known = max_length(network)
    longest = max(map(len, texts)) + count - 1  # nothing is asked about the last token
    seen = longest if context is None else min(longest, context)
    if known is not None and seen > known:
        raise ValueError(
            f"max_new_tokens {count} makes a text of {longest} tokens, but positions are learned "
            f"up to max_length {known}: pass context={known} to look at the last ones only"
        )


def max_length(network: nn.Module) -> int | None:
    """How many positions a network has learned; None if there is no such limit."""
    positions = getattr(getattr(network, "embedding", None), "positions", None)
    if isinstance(positions, Positions) and positions.tables is not None:
        return positions.max_length
    return None
