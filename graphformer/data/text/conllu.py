"""Dependency trees in CoNLL-U, and their words as samples for taggers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import DataModule
from graphformer.data.io.tabular import find_file
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.token_budget import budget_loader

_COLUMNS = 10
_FORM, _UPOS, _XPOS, _HEAD, _RELATION = 1, 3, 4, 6, 7
_LABELS = {"upos": _UPOS, "xpos": _XPOS, "relation": _RELATION}
NUM_WORD_FEATURES = 10


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence, their labels, and the number of each one's head.

    Heads count from 1; 0 is the root's, and -1 stands for a head that is not given.
    """

    forms: tuple[str, ...]
    labels: tuple[str, ...]
    heads: tuple[int, ...]


def read_conllu(
    path: Path, label: Literal["upos", "xpos", "relation"] = "upos"
) -> Iterator[Sentence]:
    """Yield the sentences of a file; multiword tokens and empty nodes are left out.

    Raises:
        ValueError: naming the line that is not CoNLL-U.

    Source: https://universaldependencies.org/format.html
    """
    words: list[list[str]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(_decoded(file, path), 1):
            if line.startswith("#"):
                continue
            if line.strip():
                columns = line.rstrip("\n").split("\t")
                if _is_word(columns, len(words), f"{path}, line {number}"):
                    words.append(columns)
                    lines.append(number)
            elif words:
                yield _sentence(words, lines, label, path)
                words, lines = [], []
    if words:
        yield _sentence(words, lines, label, path)


def word_features(form: str, num_buckets: int) -> list[int]:
    """Return `NUM_WORD_FEATURES` ids of a word: itself, its beginnings and ends, and its shape.

    Ids are hashed into `num_buckets`, so that a word that was never seen shares most of its own
    with words that were. Source: Bojanowski et al., 2017, section 3.2 (hashing).
    """
    word = form.lower()
    shape = "".join(_kind(character) for character in form[:12])
    parts = [f"w{word}", f"c{shape}", f"f{form}"]
    parts += [f"p{size}{word[:size]}" for size in (1, 2, 3)]
    parts += [f"s{size}{word[-size:]}" for size in (1, 2, 3, 4)]
    return [crc32(part.encode()) % num_buckets for part in parts]


class DependencyTrees(DataModule):
    """Words of sentences to be tagged, with the edges of their dependency trees.

    A batch has x [N, NUM_WORD_FEATURES] (ids to be embedded and summed), pos [N], `lengths`,
    y [N] (-100 where the file says "_"), and `edge_index` [2, E] from each word's head to it. Tags
    that the training split does not have are -100 too.

    Args:
        path: a CoNLL-U file to train on.
        val_path, test_path: others; else fractions of `path`, by chance.
        label: "upos", "xpos" or "relation" (to the head).
        num_buckets: how many ids words are hashed into.
        max_tokens: the budget of a batch.
        max_edges: its budget of edges; edges are the tree's.
        val_fraction, test_fraction, seed: of the division, where files lack.
        root: the data root.

    Raises:
        MissingDataError: a file is not there.
        ValueError: naming the file and line that is not CoNLL-U.
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
        super().__init__()
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self.save_hyperparameters(logger=False)
        self.label, self.vocab_size, self.root, self.seed = label, num_buckets, root, seed
        self.max_tokens, self.max_edges = max_tokens, max_edges
        self.fractions = (val_fraction, test_fraction)
        self.splits: dict[str, list[Sentence]] = {}
        self.labels: list[str] = []

    @property
    def num_classes(self) -> int:
        """The number of different tags in the training split."""
        return len(self.labels)

    def setup(self, stage: str | None = None) -> None:
        """Read the sentences."""
        if self.splits:
            return
        files = {p: find_file(f, self.root) for p, f in self.paths.items() if f is not None}
        read = {split: list(read_conllu(file, self.label)) for split, file in files.items()}
        self.splits = split_samples(read, self.fractions, self.seed)
        self.labels = sorted({tag for s in self.splits["train"] for tag in s.labels} - {"_"})

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        number = {label: i for i, label in enumerate(self.labels)}
        sentences = self.splits[split]
        samples = Ragged(
            [np.array([word_features(w, self.vocab_size) for w in s.forms]) for s in sentences],
            [np.array([number.get(label, IGNORE_INDEX) for label in s.labels]) for s in sentences],
            [_edges(sentence.heads) for sentence in sentences],
        )
        return budget_loader(
            samples, split, max_tokens=self.max_tokens, max_edges=self.max_edges, seed=self.seed
        )


def _edges(heads: tuple[int, ...]) -> np.ndarray:
    """From each word's head to it, [2, E]."""
    pairs = [(head - 1, word) for word, head in enumerate(heads) if head > 0]
    return np.array(pairs, np.int64).reshape(-1, 2).T


def _decoded(file: Iterator[str], path: Path) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(file, 1):  # noqa: B007 - the error names the line
            yield line
    except UnicodeDecodeError:
        raise ValueError(f"{path}, line {number + 1} or soon after: not UTF-8 text.") from None


def _is_word(columns: list[str], before: int, place: str) -> bool:
    """Whether the columns are of a word, the next one."""
    if len(columns) != _COLUMNS:
        raise ValueError(
            f"{place}: expected {_COLUMNS} columns separated by tabs, got {len(columns)}."
        )
    if "-" in columns[0] or "." in columns[0]:  # a multiword token, an empty node
        return False
    if columns[0] != str(before + 1):
        raise ValueError(f"{place}: expected word {before + 1}, got {columns[0]!r}.")
    return True


def _sentence(words: list[list[str]], lines: list[int], label: str, path: Path) -> Sentence:
    heads = []
    for columns, line in zip(words, lines, strict=True):
        head = columns[_HEAD]
        if head != "_" and not (head.isdecimal() and int(head) <= len(words)):
            raise ValueError(
                f"{path}, line {line}: the head is {head!r}; expected a number from 0 to "
                f"{len(words)}, or _."
            )
        heads.append(-1 if head == "_" else int(head))
    column = _LABELS[label]
    return Sentence(tuple(w[_FORM] for w in words), tuple(w[column] for w in words), tuple(heads))


def _kind(character: str) -> str:
    if character.isdigit():
        return "9"
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return character
