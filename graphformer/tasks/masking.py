"""Which tokens a masked language model hides, and what it puts in their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose_tokens(
    chance: np.ndarray, rate: float, *, spared: np.ndarray, word: np.ndarray | None = None
) -> np.ndarray:
    """Choose each token, or each word, with probability `rate`: bool [N].

    Args:
        chance: numbers drawn from [0, 1), [N].
        rate: share of the tokens.
        spared: tokens that are never chosen [N], such as <cls>.
        word: number of each token's word [N], ascending; then words are chosen as wholes, by the
            chance of their first token.
    """
    if word is not None and len(word):
        first = np.flatnonzero(np.diff(word, prepend=word[0] - 1))
        chance = np.repeat(chance[first], np.diff(np.append(first, len(word))))
    return (chance < rate) & ~spared


def number_words(starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The number of each token's word [N], from which tokens begin one [N] and the samples."""
    starts = starts.copy()
    sizes = np.array(lengths)
    first = (sizes.cumsum() - sizes)[sizes > 0]
    starts[first] = True
    return starts.cumsum()


def hide_tokens(
    x: np.ndarray,
    chosen: np.ndarray,
    generator: np.random.Generator,
    *,
    mask_id: int,
    replacements: np.ndarray,
) -> np.ndarray:
    """Replace 80 % of the chosen tokens by the mask, 10 % by random ones, and keep 10 %.

    Args:
        x: token ids [N].
        chosen: [N] bool.
        generator: of the random numbers.
        mask_id: the mask's id.
        replacements: the ids that a random one is drawn from.

    Source: Devlin et al., 2019, section 3.1.
    """
    fate = generator.random(len(x))
    random = replacements[generator.integers(len(replacements), size=len(x))]
    hidden = np.where(chosen & (fate < 0.8), mask_id, x)
    return np.where(chosen & (fate >= 0.8) & (fate < 0.9), random, hidden)
