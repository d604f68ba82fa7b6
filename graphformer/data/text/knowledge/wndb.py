"""WordNet's data files (format wndb): synsets with their words, relations and glosses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphformer.data.io.tabular import decoded_lines

RELATIONS = {
    "!": "antonym", "@": "hypernym", "@i": "instance hypernym", "~": "hyponym",
    "~i": "instance hyponym", "#m": "member holonym", "#s": "substance holonym",
    "#p": "part holonym", "%m": "member meronym", "%s": "substance meronym",
    "%p": "part meronym", "=": "attribute", "+": "derivationally related form",
    ";c": "domain topic", "-c": "member of topic", ";r": "domain region",
    "-r": "member of region", ";u": "domain usage", "-u": "member of usage", "*": "entailment",
    ">": "cause", "^": "also see", "$": "verb group", "&": "similar to", "<": "participle of",
    "\\": "pertains to",
}  # fmt: skip
"""Name of each pointer symbol. Source: wninput(5WN)."""
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # the syntactic position of an adjective


@dataclass(frozen=True)
class Synset:
    """A set of synonyms with its relations to others.

    Attributes:
        key: part of speech and offset in its file, such as "n00001740".
        words: the synonyms; blanks are written as "_".
        gloss: definition and examples.
        pointers: symbol of `RELATIONS` and key of the other synset, for each relation.
    """

    key: str
    words: tuple[str, ...]
    gloss: str
    pointers: tuple[tuple[str, str], ...]


def read_wndb(path: Path) -> Iterator[Synset]:
    """Yield the synsets of a file such as data.noun, perhaps .gz.

    Relations between single words of two synsets count as relations of the synsets.

    Raises:
        ValueError: when a line is not a synset; the message names it.

    Source: https://wordnet.princeton.edu/documentation/wndb5wn
    """
    for number, line in decoded_lines(path):
        if line.startswith("  ") or not line.strip():
            continue  # the licence at the beginning of the file
        try:
            yield parse_synset(line)
        except (ValueError, IndexError, KeyError) as error:
            reason = str(error) if isinstance(error, ValueError) else "too few or unknown fields"
            raise ValueError(
                f"{path}, line {number}: got no synset ({reason}), expected the format wndb; "
                "choose a file data.noun, data.verb, data.adj or data.adv of WordNet"
            ) from None


def parse_synset(line: str) -> Synset:
    """Return the synset of a line: `offset file type count words count pointers ... | gloss`.

    Raises:
        ValueError: when a number is malformed or the gloss is absent.
        IndexError: when there are fewer fields than the counts say.
        KeyError: when a pointer symbol is unknown.
    """
    before, separator, gloss = line.partition(" | ")
    if not separator:
        raise ValueError("no gloss after ' | '")
    fields = before.split()
    num_words = int(fields[3], 16)  # two hexadecimal digits; the number of pointers is decimal
    words = tuple(_MARKER.sub("", fields[4 + 2 * i]) for i in range(num_words))
    first = 5 + 2 * num_words
    pointers = []
    for i in range(first, first + 4 * int(fields[first - 1]), 4):
        symbol, offset, part_of_speech, _ = fields[i : i + 4]
        RELATIONS[symbol]  # raises for an unknown symbol
        pointers.append((symbol, _key(part_of_speech, offset)))
    return Synset(_key(fields[2], fields[0]), words, gloss.strip(), tuple(pointers))


def _key(part_of_speech: str, offset: str) -> str:
    """Return the key of a synset; satellites "s" are in the file of adjectives "a"."""
    return f"{'a' if part_of_speech == 's' else part_of_speech}{int(offset):08d}"
