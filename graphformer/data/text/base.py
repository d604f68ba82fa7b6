"""Base classes of text data: with a tokenizer, with class names, with a file for each split."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.base import DataModule
from graphformer.data.loader import BatchLoader
from graphformer.data.splits import split_samples
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.data.text.tokenizer_training import make_tokenizer, restore_tokenizer
from graphformer.data.token_budget import SizedSamples, budget_loader
from graphformer.deprecated import renamed_keywords

_Sample = TypeVar("_Sample")
FilePath = str | os.PathLike[str]


class TokenizedData(DataModule):
    """A data module with a tokenizer, which checkpoints contain.

    `setup` makes the tokenizer; one that is loaded from a checkpoint replaces it.
    """

    tokenizer: Tokenizer | None = None

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens."""
        return self.need_tokenizer().vocab_size

    def encode(self, text: str) -> Tensor:
        """Return the token ids of a text, int64 [N]."""
        return self.need_tokenizer().encode(text)

    def decode(self, ids: Tensor | list[int]) -> str:
        """Return the text of token ids [N]."""
        return self.need_tokenizer().decode(ids)

    def need_tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises:
            RuntimeError: when called before `setup`.
        """
        if self.tokenizer is None:
            raise RuntimeError(f"{type(self).__name__} has no tokenizer yet; call setup() first")
        return self.tokenizer

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer's state, for a checkpoint."""
        state = super().state_dict()
        return state if self.tokenizer is None else {**state, "tokenizer": self.tokenizer.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the tokenizer of a checkpoint."""
        super().load_state_dict(state_dict)
        if "tokenizer" in state_dict:
            self.tokenizer = restore_tokenizer(state_dict["tokenizer"])


class LabelledData(DataModule):
    """A data module with named classes, which checkpoints contain.

    A run therefore numbers its classes as in training, whatever classes other data has.

    Attributes:
        labels: name of each class; `setup` finds them in the data, and those of a checkpoint
            replace them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []
        self._has_restored_labels = False

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    def find_labels(self, labels: list[str]) -> None:
        """Set the class names found in the data, unless a checkpoint had some."""
        if not self._has_restored_labels:
            self.labels = labels

    def number_labels(self, labels: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return the class of each label of each sample; -100 for "_" and for unknown labels.

        Raises:
            ValueError: when there are labels, none of which is a class.
        """
        numbers = {label: i for i, label in enumerate(self.labels)}
        found = {label for sample in labels for label in sample} - {"_"}
        if found and not found & numbers.keys():
            raise ValueError(
                f"labels: got {', '.join(sorted(found)[:10])}, none of which is a class of the "
                f"run, expected some of {', '.join(self.labels)}; choose another column or file"
            )
        return [[numbers.get(label, IGNORE_INDEX) for label in sample] for sample in labels]

    def state_dict(self) -> dict[str, Any]:
        """Return the class names, for a checkpoint."""
        state = super().state_dict()
        return {**state, "labels": list(self.labels)} if self.labels else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the class names of a checkpoint."""
        super().load_state_dict(state_dict)
        if "labels" in state_dict:
            self.labels, self._has_restored_labels = list(state_dict["labels"]), True


class SampleFiles(DataModule, Generic[_Sample]):
    """Samples from one file for each split, in batches within a budget of tokens and edges.

    A subclass defines `read` (a file's samples) and `samples` (those of a split as token ids).
    Splits without a file are drawn from the training file. Its constructor declares all arguments
    itself, so that the command line finds them.

    Args:
        paths: file of "train", and of "val" and "test" or None.
        fractions: of the training file, for "val" and "test" where they have no file.
        max_tokens, max_edges: the budget of a batch, see `TokenBudgetSampler`.
        root: the data root.
        seed: of the random split and of the order of the batches.

    Attributes:
        splits: the samples of each split, after `setup`.
    """

    counts_all_pairs = False
    """Whether `max_edges` counts all pairs of a sample's tokens even if it has edges."""

    def __init__(
        self,
        paths: dict[str, FilePath | None],
        *,
        fractions: tuple[float, float],
        max_tokens: int,
        max_edges: int | None,
        root: FilePath | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.paths = {split: path for split, path in paths.items() if path is not None}
        self.fractions, self.seed = fractions, seed
        self.root = root
        self.max_tokens, self.max_edges = max_tokens, max_edges
        self.splits: dict[str, list[_Sample]] = {}
        self._positions: dict[str, list[int]] = {}

    @abstractmethod
    def read(self, path: FilePath) -> list[_Sample]:
        """Return the samples of a file."""

    @abstractmethod
    def samples(self, split: str) -> SizedSamples:
        """Return the samples of a split as arrays from which batches are packed."""

    def setup(self, stage: str | None = None) -> None:
        """Read the files and split their samples, once."""
        if not self.splits:
            read = {split: self.read(path) for split, path in self.paths.items()}
            self.splits = split_samples(read, self.fractions, self.seed)
            numbers = {split: list(range(len(samples))) for split, samples in read.items()}
            self._positions = split_samples(numbers, self.fractions, self.seed)

    def sample_numbers(self, split: str) -> list[int]:
        """Return the position of a split's samples in their file."""
        return self._positions[split]

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split within the budget, the training split's shuffled."""
        return budget_loader(
            self.samples(split),
            split,
            max_tokens=self.max_tokens,
            max_edges=self.max_edges,
            seed=self.seed,
            pairs=self.counts_all_pairs,
        )


class TokenizedFiles(SampleFiles[_Sample], TokenizedData):
    """`SampleFiles` whose texts are tokenized; a subclass also defines `training_texts`.

    Args:
        paths, fractions, max_tokens, max_edges, root, seed: of `SampleFiles`.
        vocabulary: a tokenizer's file or folder, or the kind of one that is trained on the
            training split, see `make_tokenizer`.
        vocabulary_size: maximum number of tokens to train.
    """

    def __init__(
        self,
        paths: dict[str, FilePath | None],
        *,
        vocabulary: str,
        vocabulary_size: int,
        fractions: tuple[float, float],
        max_tokens: int,
        max_edges: int | None,
        root: FilePath | None,
        seed: int,
    ) -> None:
        super().__init__(
            paths,
            fractions=fractions,
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.vocabulary, self.vocabulary_size = vocabulary, vocabulary_size

    @abstractmethod
    def training_texts(self) -> list[str]:
        """Return the texts of the training split, on which a tokenizer is trained."""

    def setup(self, stage: str | None = None) -> None:
        """Read and split the samples, and make the tokenizer unless a checkpoint had one."""
        super().setup(stage)
        if self.tokenizer is None:
            self.tokenizer = make_tokenizer(
                self.vocabulary, self.training_texts(), vocab_size=self.vocabulary_size
            )

    def check_tokens(self, split: str, rows: Sequence[np.ndarray], texts: Sequence[str]) -> None:
        """Check that every text of a split has a token.

        Raises:
            ValueError: when one has none; the message names its file.
        """
        for row, text in zip(rows, texts, strict=True):
            if not len(row):
                path = self.paths.get(split, self.paths["train"])
                raise ValueError(
                    f"{path}: the text {text!r} of the {split} split has no tokens; remove it, or "
                    "choose another vocabulary"
                )
