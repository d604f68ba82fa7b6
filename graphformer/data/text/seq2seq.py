"""Pairs of sequences for encoder-decoders: texts from files, and symbols to reverse or sort."""

from __future__ import annotations

from typing import Literal

import numpy as np

from graphformer.data.base import DataModule
from graphformer.data.io.tabular import find_records, read_text_pairs
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import RaggedPairs
from graphformer.data.text.base import FilePath, TokenizedFiles
from graphformer.data.token_budget import budget_loader
from graphformer.deprecated import renamed_keywords


class TextPairs(TokenizedFiles[tuple[str, str]]):
    """Pairs of texts, such as translations, in batches within a budget of tokens.

    A batch has the decoder's input x [M] (<bos>, then the target), its labels y [M] (the target,
    then <eos>), pos [M] and lengths, and the encoder's source [N], source_pos and source_lengths.

    Args:
        path: a table (.csv with commas, else with tabs) or .jsonl, perhaps .gz.
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        source, target: names of fields; in a table without a header the numbers of columns, from 0.
        encoding: of the files.
        vocabulary: of both texts: "characters", "bytes", a file of `graphformer tokenize`, or
            "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        max_length: maximum number of tokens of either text; longer pairs are dropped from the
            training split, and cut in the others.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a line is malformed or a source has no tokens; the message names the file.
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
        super().__init__(
            {"train": path, "val": val_path, "test": test_path},
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            fractions=(val_fraction, test_fraction),
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.source, self.target, self.encoding = source, target, encoding
        self.max_length = max_length

    def training_texts(self) -> list[str]:
        """Return sources and targets of the training split, in turn."""
        return [text for pair in self.splits["train"] for text in pair]

    def samples(self, split: str) -> RaggedPairs:
        """Return the token ids of a split's pairs, none longer than `max_length`."""
        tokenizer, pairs = self.need_tokenizer(), self.splits[split]
        sources, targets = (
            [ids.numpy() for ids in tokenizer.encode_batch([pair[side] for pair in pairs])]
            for side in (0, 1)
        )
        self.check_tokens(split, sources, [source for source, _ in pairs])
        limit = self.max_length
        if split == "train":
            short = [p for p in zip(sources, targets, strict=True) if max(map(len, p)) <= limit]
            sources, targets = [s for s, _ in short], [t for _, t in short]
        else:
            sources, targets = [s[:limit] for s in sources], [t[:limit] for t in targets]
        return RaggedPairs(sources, targets, start=tokenizer.need("bos"), end=tokenizer.need("eos"))

    def read(self, path: FilePath) -> list[tuple[str, str]]:
        """Return the pairs of source and target of a file."""
        file = find_records(path, self.root)
        rows = read_text_pairs(file, self.source, self.target, self.encoding)
        return [(source, target) for _, source, target in rows]


class SymbolPairs(DataModule):
    """Random sequences of symbols to reverse or sort: a small test of encoder-decoders.

    Batches are those of `TextPairs`; ids are the symbols, then <bos> and <eos>. No sequence is in
    two splits.

    Args:
        task: "reverse" or "sort".
        num_symbols: number of distinct symbols.
        min_length, max_length: of the sequences.
        num_samples: of the training split; the others have a tenth of it each.
        max_tokens: the budget of a batch.
        seed: of the sequences and of the order.

    Raises:
        ValueError: when the lengths are below 1 or in the wrong order.
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
                f"min_length and max_length: got {min_length} and {max_length}, expected 1 or more "
                "and min_length no larger than max_length"
            )
        self.save_hyperparameters(logger=False)
        self.task, self.num_symbols, self.num_samples = task, num_symbols, num_samples
        self.min_length, self.max_length = min_length, max_length
        self.max_tokens, self.seed = max_tokens, seed
        self.bos_id, self.eos_id = num_symbols, num_symbols + 1
        self.vocab_size = num_symbols + 2
        self.splits: dict[str, list[np.ndarray]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw distinct sequences, as many as the splits need or as are found in ten times that."""
        generator = np.random.default_rng(self.seed)
        total = self.num_samples + 2 * max(1, self.num_samples // 10)
        distinct: dict[bytes, np.ndarray] = {}
        for _ in range(10 * total):
            size = generator.integers(self.min_length, self.max_length + 1)
            row = generator.integers(self.num_symbols, size=size)
            distinct[row.tobytes()] = row
            if len(distinct) == total:
                break
        rows = list(distinct.values())
        tenth = max(1, len(rows) // 12)
        train, val = rows[2 * tenth :], rows[:tenth]
        self.splits = {"train": train, "val": val, "test": rows[tenth : 2 * tenth]}

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return pairs of a sequence and its reversed or sorted form, within the budget."""
        rows = self.splits[split]
        targets = [row[::-1] if self.task == "reverse" else np.sort(row) for row in rows]
        samples = RaggedPairs(rows, targets, start=self.bos_id, end=self.eos_id)
        return budget_loader(
            samples, split, max_tokens=self.max_tokens, max_edges=None, seed=self.seed
        )
