"""CoNLL-U files: sentences, hashed features of words, and `DependencyTrees` for taggers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

from graphformer.data.io.tabular import decoded_lines, find_file
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath, LabelledData, SampleFiles

_COLUMNS = 10
_FORM, _UPOS, _XPOS, _HEAD, _RELATION = 1, 3, 4, 6, 7
_LABELS = {"upos": _UPOS, "xpos": _XPOS, "relation": _RELATION}
NUM_WORD_FEATURES = 10


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence with their labels and heads.

    Attributes:
        forms: the words.
        labels: of each word; "_" where it has none.
        heads: number of each word's head, from 1; 0 for a root, -1 where the file has none.
    """

    forms: tuple[str, ...]
    labels: tuple[str, ...]
    heads: tuple[int, ...]


def read_conllu(
    path: Path, label: Literal["upos", "xpos", "relation"] = "upos"
) -> Iterator[Sentence]:
    """Yield the sentences of a file, perhaps .gz, without multiword tokens and empty nodes.

    Raises:
        ValueError: when a line is not CoNLL-U, or when heads form a cycle; the message names the
            line.

    Source: https://universaldependencies.org/format.html
    """
    words: list[list[str]] = []
    lines: list[int] = []
    for number, line in decoded_lines(path):
        if line.startswith("#"):
            continue
        if line.strip():
            columns = line.rstrip("\r\n").split("\t")
            if _is_word(columns, len(words), f"{path}, line {number}"):
                words.append(columns)
                lines.append(number)
        elif words:
            yield _sentence(words, lines, label, path)
            words, lines = [], []
    if words:
        yield _sentence(words, lines, label, path)


def number_tags(sentences: Sequence[Sentence], label: str) -> list[str]:
    """Return the distinct tags of sentences, sorted: class i is the i-th of them.

    Raises:
        ValueError: when no word has a tag; the message names `label`.
    """
    tags = sorted({tag for sentence in sentences for tag in sentence.labels} - {"_"})
    if sentences and not tags:
        raise ValueError(
            f"label: got {label!r}, which is '_' at all words to train on; choose another column"
        )
    return tags


def word_features(form: str, num_buckets: int) -> list[int]:
    """Return `NUM_WORD_FEATURES` ids of a word: the word, its prefixes and suffixes, and its shape.

    Ids are hashed into `num_buckets`, so that an unknown word shares most of its ids with known
    words. Source: Bojanowski et al., 2017, section 3.2 (hashing).
    """
    word = form.lower()
    shape = "".join(_character_class(character) for character in form[:12])
    features = [f"w{word}", f"c{shape}", f"f{form}"]
    features += [f"p{size}{word[:size]}" for size in (1, 2, 3)]
    features += [f"s{size}{word[-size:]}" for size in (1, 2, 3, 4)]
    return [crc32(feature.encode()) % num_buckets for feature in features]


class DependencyTrees(SampleFiles[Sentence], LabelledData):
    """Sentences whose words are tagged, with the edges of their dependency trees.

    A batch has x [N, NUM_WORD_FEATURES] (ids to embed and add up), pos [N], lengths, y [N], and
    edge_index [2, E] from each word's head to the word. Labels are -100 where the file has "_", and
    for tags that are absent from the training split.

    Args:
        path: a CoNLL-U file to train on, perhaps .gz.
        val_path, test_path: others; else fractions of `path`, at random.
        label: "upos", "xpos" or "relation" (to the head).
        num_buckets: number of ids that word features are hashed into.
        max_tokens: the budget of a batch.
        max_edges: its budget of edges; edges are the trees'.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a line is not CoNLL-U, or when no word has a tag.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        label: Literal["upos", "xpos", "relation"] = "upos",
        num_buckets: int = 1 << 15,
        max_tokens: int = 1024,
        max_edges: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            {"train": path, "val": val_path, "test": test_path},
            fractions=(val_fraction, test_fraction),
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.label, self.vocab_size = label, num_buckets

    def setup(self, stage: str | None = None) -> None:
        """Read the sentences and number the tags."""
        super().setup(stage)
        self.find_labels(number_tags(self.splits["train"], self.label))

    def samples(self, split: str) -> Ragged:
        """Return the word features of a split's sentences, their tags and their trees."""
        sentences = self.splits[split]
        labels = self.number_labels([sentence.labels for sentence in sentences])
        return Ragged(
            [np.array([word_features(w, self.vocab_size) for w in s.forms]) for s in sentences],
            [np.array(row) for row in labels],
            [_edges(sentence.heads) for sentence in sentences],
        )

    def read(self, path: FilePath) -> list[Sentence]:
        """Return the sentences of a CoNLL-U file with the chosen labels."""
        return list(read_conllu(find_file(path, self.root), self.label))


def _edges(heads: tuple[int, ...]) -> np.ndarray:
    """Return the edges from each word's head to the word, [2, E]."""
    pairs = [(head - 1, word) for word, head in enumerate(heads) if head > 0]
    return np.array(pairs, np.int64).reshape(-1, 2).T


def _is_word(columns: list[str], count: int, place: str) -> bool:
    """Whether a line's columns are those of the next word, after `count` words."""
    if len(columns) != _COLUMNS:
        raise ValueError(
            f"{place}: expected {_COLUMNS} columns separated by tabs, got {len(columns)}"
        )
    if "-" in columns[0] or "." in columns[0]:  # a multiword token, an empty node
        return False
    if columns[0] != str(count + 1):
        raise ValueError(f"{place}: expected word {count + 1}, got {columns[0]!r}")
    return True


def _sentence(words: list[list[str]], lines: list[int], label: str, path: Path) -> Sentence:
    heads = []
    for columns, line in zip(words, lines, strict=True):
        head = columns[_HEAD]
        if head != "_" and not (head.isdecimal() and int(head) <= len(words)):
            raise ValueError(
                f"{path}, line {line}: the head is {head!r}; expected a number from 0 to "
                f"{len(words)}, or _"
            )
        heads.append(-1 if head == "_" else int(head))
    _check_acyclic(heads, lines, path)
    column = _LABELS[label]
    return Sentence(tuple(w[_FORM] for w in words), tuple(w[column] for w in words), tuple(heads))


def _check_acyclic(heads: list[int], lines: list[int], path: Path) -> None:
    """Raise ValueError when following the heads from a word leads back to it."""
    done = [False] * len(heads)
    for start in range(len(heads)):
        chain: list[int] = []
        word = start
        while word >= 0 and not done[word]:
            if word in chain:
                raise ValueError(
                    f"{path}, line {lines[word]}: the head of word {word + 1} depends on the word "
                    "itself; expected a tree"
                )
            chain.append(word)
            word = heads[word] - 1
        for word in chain:
            done[word] = True


def _character_class(character: str) -> str:
    if character.isdigit():
        return "9"
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return character
