"""Phrases in token sequences: a list of them, and where they occur, for masks of whole phrases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphformer.data.io.tabular import decoded_lines
from graphformer.data.text.knowledge.wndb import read_wndb
from graphformer.data.text.tokenizer import Tokenizer

_END = -1  # key of a trie's node at which a phrase ends; ids are at least 0


class PhraseList:
    """Phrases as sequences of token ids, found in texts.

    Args:
        phrases: token ids of each phrase; those of less than two tokens are left out.
        word_starts: which tokens begin a word, bool [vocab_size].
    """

    def __init__(self, phrases: Iterable[Sequence[int]], word_starts: np.ndarray) -> None:
        self.word_starts = word_starts
        self.trie: dict[int, Any] = {}
        for phrase in phrases:
            if len(phrase) > 1:
                node = self.trie
                for token in phrase:
                    node = node.setdefault(int(token), {})
                node[_END] = {}

    @classmethod
    def from_texts(cls, texts: Iterable[str], tokenizer: Tokenizer) -> PhraseList:
        """Return phrases as a tokenizer encodes them at the start of a text and after a blank.

        Phrases with unknown tokens are left out.
        """
        found = [variant for text in texts for variant in (text, f" {text}")]
        rows = [ids.tolist() for ids in tokenizer.encode_batch(found)]
        unknown = {tokenizer.unk_id}
        added = set(tokenizer.special_ids) - unknown  # those that a checkpoint's tokenizer adds
        kept = [[i for i in row if i not in added] for row in rows if not unknown & set(row)]
        return cls(kept, tokenizer.word_starts.numpy())

    def spans(self, x: np.ndarray) -> list[tuple[int, int]]:
        """Return start and end of phrases in the ids of one text, [n], without overlaps.

        From left to right the longest phrase is taken that begins and ends at the borders of words.
        """
        ids, starts = x.tolist(), self.word_starts[x].tolist()
        spans, position = [], 0
        while position < len(ids):
            stop = self._longest(ids, starts, position)
            if stop > position:
                spans.append((position, stop))
            position = max(stop, position + 1)
        return spans

    def _longest(self, ids: list[int], starts: list[bool], position: int) -> int:
        """Return the end of the longest phrase from a position on, or the position."""
        longest, node = position, self.trie
        if position and not starts[position]:
            return position
        for i in range(position, len(ids)):
            if ids[i] not in node:
                break
            node = node[ids[i]]
            if _END in node and (i + 1 == len(ids) or starts[i + 1]):
                longest = i + 1
        return longest

    def join(self, unit: np.ndarray, x: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """Return the numbers of units of tokens, with the units of each phrase as one, [N].

        Args:
            unit: number of the unit that each token belongs to, ascending, [N].
            x: token ids of all texts, [N].
            lengths: number of tokens of each text.
        """
        joined, first = unit.copy(), 0
        for length in lengths:
            for start, stop in self.spans(x[first : first + length]):
                joined[first + start : first + stop] = joined[first + start]
            first += length
        return joined


def read_phrases(file: Path) -> list[str]:
    """Return the phrases of a file, one a line; of a file data.noun of WordNet its collocations.

    Raises:
        ValueError: when no line has two words or more.
    """
    if file.name.startswith("data."):
        words = (word for synset in read_wndb(file) for word in synset.words)
    else:
        words = (line.strip() for _, line in decoded_lines(file))
    phrases = sorted({" ".join(word.replace("_", " ").split()) for word in words})
    phrases = [phrase for phrase in phrases if " " in phrase]
    if not phrases:
        raise ValueError(f"phrases: got {file}, expected lines of two words or more")
    return phrases
