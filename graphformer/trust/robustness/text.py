"""Changed texts: typing errors and swapped words."""

from __future__ import annotations

import random


def typos(text: str, rate: float, generator: random.Random) -> str:
    """Return a text in which some words of two letters or more have one typing error.

    An error swaps two neighbouring letters, leaves a letter out, or doubles one.

    Args:
        text: words separated by spaces.
        rate: probability that a word has an error.
        generator: of the choice.
    """
    return " ".join(
        _mistyped(word, generator) if len(word) > 1 and generator.random() < rate else word
        for word in text.split(" ")
    )


def _mistyped(word: str, generator: random.Random) -> str:
    i = generator.randrange(len(word) - 1)
    kind = generator.choice(("swap", "omit", "double"))
    if kind == "swap":
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word[:i] + word[i + 1 :] if kind == "omit" else word[: i + 1] + word[i:]


def swap_words(text: str, rate: float, generator: random.Random) -> str:
    """Return a text in which some pairs of neighbouring words have changed places.

    Args:
        text: words separated by spaces.
        rate: share of the words that are moved; each is in one pair at most.
        generator: of the choice.
    """
    words = text.split(" ")
    i = 0
    while i + 1 < len(words):
        if generator.random() < rate / 2:
            words[i], words[i + 1] = words[i + 1], words[i]
            i += 1
        i += 1
    return " ".join(words)
