"""Sentences as runs of token ids that end with a full stop, for denoising of documents."""

from __future__ import annotations

import numpy as np

from graphformer.data.text.tokenizer import Tokenizer

ENDS = ".!?…。！？।؟"
"""Characters that end a sentence, in Latin, Chinese, Japanese, Hindi and Arabic script."""


def ends_sentences(tokenizer: Tokenizer) -> np.ndarray:
    """Return which tokens end a sentence, bool [vocab_size]: those whose last character does.

    With single bytes only the ends in ASCII are found.
    """
    texts = (tokenizer.decode([i]).rstrip() for i in range(tokenizer.vocab_size))
    return np.array([text[-1:] in ENDS and text != "" for text in texts], bool)


def split_sentences(row: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Return the sentences of a document, each with its end; the last one may have none.

    A run of ends such as "?!" or "..." ends one sentence.

    Args:
        row: token ids, [n].
        ends: which tokens end a sentence, bool [vocab_size].
    """
    is_end = ends[row]
    stops = np.flatnonzero(is_end[:-1] & ~is_end[1:]) + 1
    return np.split(row, stops)


def permute_sentences(
    row: np.ndarray, ends: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return a document with its sentences in a random order, [n].

    Args:
        row: token ids, [n].
        ends: which tokens end a sentence, bool [vocab_size].
        generator: of the order.

    Source: Lewis et al., 2020 (BART), section 2.2.
    """
    sentences = split_sentences(row, ends)
    return np.concatenate([sentences[i] for i in generator.permutation(len(sentences))])
