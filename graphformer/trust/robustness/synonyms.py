"""Synonyms of WordNet, and texts in which words are replaced by them."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from graphformer.data import MissingDataError
from graphformer.data.io.cache import data_root

_PARTS = ("noun", "verb", "adj", "adv")


def read_synonyms(root: str | os.PathLike[str] | None = None) -> Mapping[str, Sequence[str]]:
    """Return word -> the other single words of all its synsets, in lower case and sorted.

    Reads `root`/wordnet/data.{noun,verb,adj,adv}, or the same with .gz; the root is by default
    $GRAPHFORMER_DATA or `data`.

    Raises:
        MissingDataError: when a file is missing.

    Source: Fellbaum, 1998, WordNet 3.0; the format is described in wndb(5WN).
    """
    return _read(data_root(root) / "wordnet")


@lru_cache(maxsize=1)
def _read(folder: Path) -> Mapping[str, Sequence[str]]:
    found: dict[str, set[str]] = {}
    for part in _PARTS:
        for words in _synsets(folder / f"data.{part}"):
            for word in words:
                found.setdefault(word, set()).update(words - {word})
    return {word: sorted(others) for word, others in found.items() if others}


def _synsets(path: Path) -> Iterator[set[str]]:
    """Yield the single words of each synset of a file, without the syntax marks of adjectives."""
    packed = path.with_name(f"{path.name}.gz")
    if not path.is_file() and not packed.is_file():
        raise MissingDataError(
            f"there is neither {path} nor {packed.name}; put WordNet's files there, such as those "
            "of Debian's package wordnet-base, or set GRAPHFORMER_DATA to the folder above"
        )
    with open(path, "rb") if path.is_file() else gzip.open(packed) as file:
        for line in file:
            if line.startswith(b"  "):  # the licence
                continue
            fields = line.decode("ascii").split(" ")
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            yield {word.partition("(")[0].lower() for word in words if "_" not in word}


def replace_synonyms(
    text: str, rate: float, generator: random.Random, synonyms: Mapping[str, Sequence[str]]
) -> str:
    """Return a text in which some of the words that have synonyms are replaced by one of them.

    Args:
        text: words separated by spaces; inflected forms are words of their own, mostly without
            synonyms.
        rate: probability that a word is replaced.
        generator: of the choice.
        synonyms: word in lower case -> others, as of `read_synonyms`.
    """
    return " ".join(
        generator.choice(synonyms[word.lower()])
        if word.lower() in synonyms and generator.random() < rate
        else word
        for word in text.split(" ")
    )
