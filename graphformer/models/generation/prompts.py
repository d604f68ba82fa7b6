"""Prompts: conversion to lists of token ids, checks against the network, keys of random streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from torch import Tensor, nn

from graphformer.nn import Positions

Prompts: TypeAlias = Sequence[int] | Tensor | Sequence[Sequence[int]] | Sequence[Tensor]
"""Token ids of one text, or of several."""


def as_token_lists(prompts: Prompts) -> tuple[list[list[int]], bool]:
    """Return the prompts as lists of token ids, and whether they are a batch of texts.

    Args:
        prompts: ids as ints, tensors or numpy arrays, of one text or of several.

    Raises:
        TypeError: when they hold something other than whole numbers, such as a string.
        ValueError: when a prompt is empty.
    """
    listed = _as_list(prompts)
    if listed and isinstance(listed[0], int):
        texts, is_batch = [listed], False
    else:
        texts, is_batch = [_as_list(prompt) for prompt in listed] or [[]], bool(listed)
    for text in texts:
        if not text:
            raise ValueError("prompts: got an empty one, expected at least one token in each")
        wrong = next((token for token in text if not isinstance(token, int)), None)
        if wrong is not None:
            raise _not_ids(wrong)
    return texts, is_batch


def _as_list(values: Any) -> list[Any]:
    if isinstance(values, Tensor | np.ndarray):
        values = values.tolist()
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise _not_ids(values)
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def _not_ids(value: object) -> TypeError:
    return TypeError(
        f"prompts: got {value!r}, expected token ids of one text or of several; encode texts with "
        "the model's tokenizer, model.tokenizer.encode(text)"
    )


def seed_keys(
    texts: Sequence[Sequence[int]], source_checksums: Sequence[int] | None = None
) -> list[tuple[int, int, int]]:
    """Return a key of each text for its random stream, independent of the rest of the batch.

    A key holds the checksum of the tokens, that of the encoder's input, and the number of equal
    texts before this one.
    """
    counts: Counter[tuple[int, int]] = Counter()
    keys = []
    for number, text in enumerate(texts):
        source = 0 if source_checksums is None else source_checksums[number]
        checksums = crc32(np.array(text, np.int64).tobytes()), source
        keys.append((*checksums, counts[checksums]))
        counts[checksums] += 1
    return keys


def check_token_ids(network: object, texts: list[list[int]]) -> None:
    """Check token ids against the size of the network's token embedding.

    Raises:
        ValueError: when an id is negative, or too large for the embedding.
    """
    tokens = getattr(getattr(network, "embedding", None), "features", None)
    if isinstance(tokens, nn.Embedding):
        for number in (min(map(min, texts)), max(map(max, texts))):
            if not 0 <= number < tokens.num_embeddings:
                raise ValueError(
                    f"prompts: got the token id {number}, expected ids from 0 to "
                    f"{tokens.num_embeddings - 1}; encode them with the model's own tokenizer"
                )


def check_length(network: object, texts: list[list[int]], count: int, context: int | None) -> None:
    """Check the length of the finished texts against the learned positions.

    Raises:
        ValueError: when texts that grow by `count` tokens exceed the positions and the context.
    """
    limit = max_length(network)
    longest = max(map(len, texts)) + count - 1  # the last token is not fed back
    visible = longest if context is None else min(longest, context)
    if limit is not None and visible > limit:
        raise ValueError(
            f"max_new_tokens: got {count}, which makes a text of {longest} tokens, expected at "
            f"most the network's max_length {limit}; pass context={limit} to attend to the last "
            "tokens only"
        )


def max_length(network: object) -> int | None:
    """Return the number of positions that a network has learned; None without such a limit."""
    positions = getattr(getattr(network, "embedding", None), "positions", None)
    if isinstance(positions, Positions) and positions.tables is not None:
        return positions.max_length
    return None
