"""Words with tags, for taggers over pieces of words: each word's tag stands at its first piece."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.io.tabular import find_file
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.text.conllu import Sentence, read_conllu
from graphformer.data.text.language_modeling import TokenizedData
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.token_budget import budget_loader


class TaggedText(TokenizedData):
    """Sentences whose words are to be tagged, as pieces of words, in batches within a budget.

    A batch has x [N] (token ids), pos [N], `lengths`, and y [N]: a word's tag at its first piece,
    -100 at all others, at special tokens, where the file says "_", and for tags that the training
    split does not have.

    Args:
        path: a CoNLL-U file to train on.
        val_path, test_path: others; else fractions of `path`, by chance.
        label: "upos", "xpos" or "relation" (to the head).
        vocabulary: a file of `graphformer tokenize`, the folder of a run or of a checkpoint, or
            "bpe" or "wordpiece" to learn one from the training split.
        vocabulary_size: the most tokens to learn.
        max_length: the most tokens a sentence; what follows is cut off.
        max_tokens: the budget of a batch.
        val_fraction, test_fraction, seed: of the division, where files lack.
        root: the data root.

    Raises:
        MissingDataError: a file is not there.
        ValueError: naming the file and line that is not CoNLL-U.

    Source: Devlin et al., 2019, section 5.3.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        label: Literal["upos", "xpos", "relation"] = "upos",
        vocabulary: str = "wordpiece",
        vocabulary_size: int = 8192,
        max_length: int = 512,
        max_tokens: int = 2048,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self.save_hyperparameters(logger=False)
        self.label, self.vocabulary, self.vocabulary_size = label, vocabulary, vocabulary_size
        self.max_length, self.max_tokens, self.root, self.seed = max_length, max_tokens, root, seed
        self.fractions = (val_fraction, test_fraction)
        self.splits: dict[str, list[Sentence]] = {}
        self.labels: list[str] = []

    @property
    def num_classes(self) -> int:
        """The number of different tags in the training split."""
        return len(self.labels)

    def setup(self, stage: str | None = None) -> None:
        """Read the sentences, and learn the vocabulary unless a checkpoint gave one."""
        if not self.splits:
            files = {p: find_file(f, self.root) for p, f in self.paths.items() if f is not None}
            read = {split: list(read_conllu(file, self.label)) for split, file in files.items()}
            self.splits = split_samples(read, self.fractions, self.seed)
            self.labels = sorted({tag for s in self.splits["train"] for tag in s.labels} - {"_"})
        if self.tokenizer is None:
            texts = [" ".join(sentence.forms) for sentence in self.splits["train"]]
            self.tokenizer = make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        backend, sentences = self.need_tokenizer().backend, self.splits[split]
        backend.enable_truncation(self.max_length)
        encoded = backend.encode_batch([list(s.forms) for s in sentences], is_pretokenized=True)
        backend.no_truncation()
        number = {label: i for i, label in enumerate(self.labels)}
        tags = [
            _first_pieces(
                one.word_ids, [number.get(label, IGNORE_INDEX) for label in sentence.labels]
            )
            for one, sentence in zip(encoded, sentences, strict=True)
        ]
        samples = Ragged([np.array(one.ids, np.int64) for one in encoded], tags)
        return budget_loader(
            samples, split, max_tokens=self.max_tokens, max_edges=None, seed=self.seed
        )


def _first_pieces(words: list[int | None], tags: list[int]) -> np.ndarray:
    """The tag of each word at its first piece, of the number of each piece's word."""
    before: list[int | None] = [None, *words[:-1]]
    pairs = zip(words, before, strict=True)
    return np.array(
        [IGNORE_INDEX if w is None or w == last else tags[w] for w, last in pairs], np.int64
    )
