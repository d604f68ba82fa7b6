"""Texts with labels: JSON lines, tables, and folders or archives with a file or folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from graphformer.data.io.tabular import decode, find_file, text_fields
from graphformer.data.io.text_files import find_sources, open_archives
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.language_modeling import TokenizedData
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.token_budget import budget_loader

Sample = tuple[str, str]  # a text and its label


class LabelledText(TokenizedData):
    """Texts to be classified, or compared, in batches within a budget of tokens.

    A batch has x [N] (token ids), pos [N], `lengths`, and y [B] where there are labels.

    Args:
        path: .jsonl, .tsv or .csv (perhaps .gz), or a folder or zip archive with `classes`.
        val_path, test_path: files of the same form; else fractions of `path`, by chance.
        text, label: names of fields; in a table without a header the numbers of columns, from 0.
            Without a label, texts only.
        classes: of a folder or archive: class -> pattern of its files' names.
        lines: whether a file of a class has a text a line, rather than one.
        encoding: of the files.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a
            checkpoint, or "bpe" or "wordpiece" to learn one from the training split.
        vocabulary_size: the most tokens to learn.
        max_length: the most tokens a text; what follows is cut off.
        cls: whether <cls> comes before each text.
        max_tokens, max_edges: the budget of a batch; edges are pairs of a text's tokens.
        val_fraction, test_fraction, seed: of the division, where there is but one file.
        root: the data root.

    Raises:
        MissingDataError: a file is not there.
        ValueError: naming the file and line that is not as it should be.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        text: str = "text",
        label: str | None = "label",
        classes: dict[str, str] | None = None,
        lines: bool = False,
        encoding: str = "utf-8",
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        cls: bool = False,
        max_tokens: int = 4096,
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
        self.text, self.label, self.classes, self.lines = text, label, classes, lines
        self.encoding, self.vocabulary, self.vocabulary_size = encoding, vocabulary, vocabulary_size
        self.max_length, self.cls, self.root, self.seed = max_length, cls, root, seed
        self.max_tokens, self.max_edges = max_tokens, max_edges
        self.fractions = (val_fraction, test_fraction)
        self.splits: dict[str, list[Sample]] = {}
        self.labels: list[str] = []

    @property
    def num_classes(self) -> int:
        """The number of different labels."""
        return len(self.labels)

    def setup(self, stage: str | None = None) -> None:
        """Read the texts, and learn the vocabulary unless a checkpoint gave one."""
        if not self.splits:
            self.splits = self._read_splits()
            labels = {label for split in self.splits.values() for _, label in split}
            numbers = all(label.isdigit() for label in labels)
            self.labels = sorted(labels, key=int) if numbers else sorted(labels)
        if self.tokenizer is None:
            texts = [text for text, _ in self.splits["train"]]
            self.tokenizer = make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        tokenizer, samples = self.need_tokenizer(), self.splits[split]
        rows = self._rows(tokenizer, [text for text, _ in samples])
        number = {label: i for i, label in enumerate(self.labels)}
        y = None if self.label is None else [number[label] for _, label in samples]
        budget = {"max_tokens": self.max_tokens, "max_edges": self.max_edges, "seed": self.seed}
        return budget_loader(Ragged(rows, y), split, **budget)  # type: ignore[arg-type]

    def _rows(self, tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text; a checkpoint's tokenizer puts its own special tokens around it."""
        if isinstance(tokenizer, PretrainedTokenizer):
            own = tokenizer.ids(texts, max_length=self.max_length)
            return [np.array(row, np.int64) for row in own]
        before = [tokenizer.need("cls")] if self.cls else []
        ids = tokenizer.encode_batch(texts)
        return [np.array([*before, *row.tolist()], np.int64)[: self.max_length] for row in ids]

    def _read_splits(self) -> dict[str, list[Sample]]:
        given = {split: path for split, path in self.paths.items() if path is not None}
        return split_samples(
            {p: list(self._read(path)) for p, path in given.items()}, self.fractions, self.seed
        )

    def _read(self, path: str) -> Iterable[Sample]:
        if self.classes is not None:
            return self._read_classes(path, self.classes)
        file = find_file(path, self.root)
        label = self.text if self.label is None else self.label
        return ((x, y) for _, x, y in text_fields(file, self.text, label, self.encoding))

    def _read_classes(self, path: str, classes: dict[str, str]) -> Iterable[Sample]:
        sources = find_sources(path, "**/*", self.root)
        for name, pattern in classes.items():
            matching = [s for s in sources if fnmatch(s.member or str(s.path), f"*{pattern}")]
            if not matching:
                raise ValueError(
                    f"classes: no file in {path} matches {pattern!r} of the class {name!r}; there "
                    f"are {', '.join(Path(s.member or s.path).name for s in sources[:5])} ..."
                )
            with open_archives(matching) as archives:
                for source in matching:
                    with source.open(archives) as file:
                        text = decode(file.read(), self.encoding, source.name)
                    text = text.replace("\r\n", "\n")
                    texts = text.split("\n") if self.lines else [text]
                    yield from ((text, name) for text in texts if text.strip())
