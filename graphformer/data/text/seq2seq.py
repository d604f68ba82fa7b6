"""Pairs of sequences for encoder-decoders: translations from files, and sequences to turn round."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np

from graphformer.data.base import DataModule
from graphformer.data.io.tabular import find_file, text_fields
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import RaggedPairs
from graphformer.data.splits import split_samples
from graphformer.data.text.language_modeling import TokenizedData
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.token_budget import budget_loader


class TextPairs(TokenizedData):
    """Pairs of texts, such as translations, in batches within a budget of tokens.

    A batch has x [M] (what the decoder reads, from <bos> on) and y [M] (what it shall answer, up to
    <eos>), pos [M] and `lengths`, and the sources' `source` [N], `source_pos`, `source_lengths`.

    Args:
        path: a table (.csv with commas, else with tabs) or .jsonl, perhaps .gz.
        val_path, test_path: files of the same form; else fractions of `path`, by chance.
        source, target: names of fields; in a table without a header the numbers of columns, from 0.
        encoding: of the files.
        vocabulary: of both texts: "characters", "bytes", a file of `graphformer tokenize`, or
            "bpe" or "wordpiece" to learn one from the training split.
        vocabulary_size: the most tokens to learn.
        max_length: pairs in which either text has more tokens are left out of the training split,
            and cut in the others.
        max_tokens, max_edges: the budget of a batch; edges are pairs of a sample's tokens.
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
        source: str = "0",
        target: str = "1",
        encoding: str = "utf-8",
        vocabulary: str = "bpe",
        vocabulary_size: int = 8192,
        max_length: int = 128,
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
        self.source, self.target, self.encoding = source, target, encoding
        self.root, self.seed = root, seed
        self.vocabulary, self.vocabulary_size = vocabulary, vocabulary_size
        self.max_length, self.max_tokens, self.max_edges = max_length, max_tokens, max_edges
        self.fractions = (val_fraction, test_fraction)
        self.splits: dict[str, list[tuple[str, str]]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the pairs, and learn the vocabulary unless a checkpoint gave one."""
        if not self.splits:
            splits = {p: self._read(path) for p, path in self.paths.items() if path is not None}
            self.splits = split_samples(splits, self.fractions, self.seed)
        if self.tokenizer is None:
            texts = [text for pair in self.splits["train"] for text in pair]
            self.tokenizer = make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        tokenizer = self.need_tokenizer()
        sources, targets = (
            [
                row.numpy()
                for row in tokenizer.encode_batch([pair[side] for pair in self.splits[split]])
            ]
            for side in (0, 1)
        )
        longest = self.max_length
        if split == "train":
            kept = [p for p in zip(sources, targets, strict=True) if max(map(len, p)) <= longest]
            sources, targets = [s for s, _ in kept], [t for _, t in kept]
        else:
            sources, targets = [s[:longest] for s in sources], [t[:longest] for t in targets]
        samples = RaggedPairs(
            sources, targets, start=tokenizer.need("bos"), end=tokenizer.need("eos")
        )
        budget = {"max_tokens": self.max_tokens, "max_edges": self.max_edges, "seed": self.seed}
        return budget_loader(samples, split, **budget)  # type: ignore[arg-type]

    def _read(self, path: str) -> list[tuple[str, str]]:
        file = find_file(path, self.root)
        return [(x, y) for _, x, y in text_fields(file, self.source, self.target, self.encoding)]


class SymbolPairs(DataModule):
    """Random sequences of symbols, to be reversed or sorted: for trying out encoder-decoders.

    Batches are those of `TextPairs`; ids are the symbols, then <bos> and <eos>. The splits share
    no sequence.

    Args:
        task: "reverse" or "sort".
        num_symbols: number of different symbols.
        min_length, max_length: of the sequences.
        num_samples: of the training split; the others have a tenth of that.
        max_tokens: the budget of a batch.
        seed: of the sequences and their order.
    """

    def __init__(
        self,
        task: Literal["reverse", "sort"] = "reverse",
        num_symbols: int = 20,
        *,
        min_length: int = 5,
        max_length: int = 15,
        num_samples: int = 20_000,
        max_tokens: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= min_length <= max_length:
            raise ValueError(
                f"min_length is {min_length} and max_length {max_length}: expected 1 or more, and "
                "no less for the second."
            )
        self.save_hyperparameters(logger=False)
        self.task, self.num_symbols, self.num_samples = task, num_symbols, num_samples
        self.min_length, self.max_length = min_length, max_length
        self.max_tokens, self.seed = max_tokens, seed
        self.bos_id, self.eos_id = num_symbols, num_symbols + 1
        self.vocab_size = num_symbols + 2
        self.splits: dict[str, list[np.ndarray]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw the sequences."""
        generator = np.random.default_rng(self.seed)
        wanted = self.num_samples + 2 * max(1, self.num_samples // 10)
        drawn: dict[bytes, np.ndarray] = {}
        for _ in range(10 * wanted):
            size = generator.integers(self.min_length, self.max_length + 1)
            row = generator.integers(self.num_symbols, size=size)
            drawn[row.tobytes()] = row
            if len(drawn) == wanted:
                break
        rows = list(drawn.values())
        tenth = max(1, len(rows) // 12)
        train, val = rows[2 * tenth :], rows[:tenth]
        self.splits = {"train": train, "val": val, "test": rows[tenth : 2 * tenth]}

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        rows = self.splits[split]
        answers = [row[::-1] if self.task == "reverse" else np.sort(row) for row in rows]
        samples = RaggedPairs(rows, answers, start=self.bos_id, end=self.eos_id)
        return budget_loader(
            samples, split, max_tokens=self.max_tokens, max_edges=None, seed=self.seed
        )
