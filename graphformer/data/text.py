"""Text for causal language models: any text file or folder, and Python's own standard library."""

from __future__ import annotations

import os
import sysconfig
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.batches import BatchLoader, BatchOrder
from graphformer.data.files import MissingDataError, data_root
from graphformer.data.module import DataModule
from graphformer.data.tokens import Tokenizer, make_tokenizer, restore_tokenizer


class Windows:
    """Stretches of a row of tokens [T] and what follows each token of them.

    Item i starts at token i * stride and is `block_size` long, the last one perhaps shorter: with
    a stride of 1 every possible full block is an item, with one of `block_size` the items cover
    the row once.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, stride: int) -> None:
        self.tokens, self.block_size, self.stride = tokens, block_size, stride
        last = len(tokens) - 1 - (block_size if stride == 1 else 1)
        self.num_items = last // stride + 1

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: Tensor) -> Data:
        # In numpy: torch would wake its threads for a few hundred numbers.
        starts = index.numpy() * self.stride
        lengths = np.minimum(len(self.tokens) - 1 - starts, self.block_size)
        pos = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        at = np.repeat(starts, lengths) + pos
        x, y = self.tokens[at].astype(np.int64), self.tokens[at + 1].astype(np.int64)
        return Data(
            x=torch.from_numpy(x),
            y=torch.from_numpy(y),
            pos=torch.from_numpy(pos),
            lengths=tuple(lengths.tolist()),
        )


class Text(DataModule):
    """Next-token batches from the training, validation and test part of a text.

    A batch has x [N] and y [N] (token ids and the ids that follow), pos [N] and `lengths`.
    Training draws blocks at random places, new ones every epoch; validation and test cover their
    part once. `vocab_size` and `tokenizer` are there after `setup`; a checkpoint holds the
    vocabulary, and one that is loaded replaces the text's own.
    """

    def __init__(
        self,
        *,
        block_size: int,
        batch_size: int,
        steps_per_epoch: int | None,
        vocabulary: str,
        seed: int,
    ) -> None:
        super().__init__()
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}: expected 1 or more.")
        self.block_size, self.batch_size = block_size, batch_size
        self.steps_per_epoch, self.vocabulary, self.seed = steps_per_epoch, vocabulary, seed
        self.tokenizer: Tokenizer | None = None
        self._parts: dict[str, str] = {}

    @abstractmethod
    def read(self) -> dict[str, str]:
        """Return the text of the parts 'train', 'val' and 'test'."""

    def setup(self, stage: str | None = None) -> None:
        """Read the text, and make its vocabulary unless a checkpoint gave one."""
        if self._parts:
            return
        self._parts = self.read()
        if self.tokenizer is None:
            text = "".join(dict.fromkeys(self._parts.values()))
            self.tokenizer = make_tokenizer(self.vocabulary, text)

    @property
    def vocab_size(self) -> int:
        """The number of distinct tokens."""
        return self._tokenizer().vocab_size

    def encode(self, text: str) -> Tensor:
        """Return the token ids [N] of `text`."""
        return self._tokenizer().encode(text)

    def decode(self, ids: Tensor | list[int]) -> str:
        """Return the text of the token ids [N]."""
        return self._tokenizer().decode(ids)

    def batches(self, part: str) -> BatchLoader:
        """Return random blocks for training, and blocks that cover the part otherwise."""
        if part != "train":
            blocks = self._windows(part, self.block_size)
            return BatchLoader(blocks, BatchOrder(len(blocks), self.batch_size))
        crops, steps = self._windows(part, 1), self.steps_per_epoch
        if steps is None:  # as many as it takes to draw the text's number of tokens
            steps = max(1, len(crops.tokens) // (self.block_size * self.batch_size))
        order = BatchOrder(len(crops), self.batch_size, num_batches=steps, seed=self.seed)
        return BatchLoader(crops, order)

    def state_dict(self) -> dict[str, Any]:
        """Return the vocabulary."""
        return {} if self.tokenizer is None else {"tokenizer": self.tokenizer.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the vocabulary of a checkpoint."""
        if "tokenizer" in state_dict:
            self.tokenizer = restore_tokenizer(state_dict["tokenizer"])

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise RuntimeError(f"{type(self).__name__} has no vocabulary yet: call setup() first.")
        return self.tokenizer

    def _windows(self, part: str, stride: int) -> Windows:
        # Encoded here, not in setup: Lightning loads a checkpoint's vocabulary after setup.
        tokens = self.encode(self._parts[part]).numpy().astype(np.int32)
        if len(tokens) <= self.block_size:
            raise ValueError(
                f"The {part} part of the text has {len(tokens)} tokens, too few for block_size "
                f"{self.block_size}: choose a smaller block_size or a longer text."
            )
        return Windows(tokens, self.block_size, stride)


class TextFile(Text):
    """A causal language model's batches from a text file, or from a folder's files in order.

    `path` is looked for as it stands, then under the data root. The last `val_fraction` of the
    text is for validation; the part before it of `test_fraction` is the test part, and without
    one the test part is the validation part, as is usual with tiny Shakespeare.

    Raises:
        MissingDataError: no such file or folder, or no file in it matches `glob`.
        ValueError: a file is not UTF-8 and the vocabulary is not 'bytes', or the text is short.
    """

    def __init__(
        self,
        path: str,
        block_size: int = 64,
        batch_size: int = 12,
        *,
        steps_per_epoch: int | None = None,
        vocabulary: str = "characters",
        glob: str = "**/*.txt",
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            block_size=block_size,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            vocabulary=vocabulary,
            seed=seed,
        )
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        if not (val_fraction > 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} leave no text for "
                "a part: expected val_fraction above 0 and a sum below 1."
            )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.glob = path, root, glob
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    def prepare_data(self) -> None:
        """Look for the text."""
        self._files()

    def read(self) -> dict[str, str]:
        """Return the text's parts, split by position."""
        text = "\n".join(_read(file, self.vocabulary) for file in self._files())
        test = int(len(text) * (1 - self.val_fraction - self.test_fraction))
        val = int(len(text) * (1 - self.val_fraction))
        parts = {"train": text[:test], "val": text[val:], "test": text[test:val]}
        return parts if self.test_fraction else {**parts, "test": parts["val"]}

    def _files(self) -> list[Path]:
        path, under_root = Path(self.path).expanduser(), data_root(self.root) / self.path
        found = path if path.exists() else under_root
        if found.is_file():
            return [found]
        files = sorted(file for file in found.glob(self.glob) if file.is_file())
        if not files:
            raise MissingDataError(
                f"path is {self.path!r}, but neither {path.absolute()} nor {under_root.absolute()} "
                f"is a text file or a folder with files {self.glob!r}: put the text there, or "
                "set root or the variable GRAPHFORMER_DATA to where it is."
            )
        return files


class StandardLibrary(Text):
    """A causal language model's batches from the source files of Python's own standard library.

    The modules are shuffled by `seed` and taken up to `max_characters`, without those that are not
    plain ASCII or longer than a twentieth of that. Whole files make up the last tenth, which is
    for testing, and the tenth before it, which is for validation.

    Raises:
        MissingDataError: this Python carries no source files.
    """

    def __init__(
        self,
        block_size: int = 64,
        batch_size: int = 12,
        *,
        max_characters: int = 1_000_000,
        steps_per_epoch: int | None = None,
        vocabulary: str = "characters",
        seed: int = 0,
    ) -> None:
        super().__init__(
            block_size=block_size,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            vocabulary=vocabulary,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.max_characters = max_characters
        self.files: dict[str, list[Path]] = {}

    def read(self) -> dict[str, str]:
        """Return the modules' text in parts, split by file."""
        texts = self._texts()
        characters = np.cumsum([len(text) for text in texts.values()])
        if len(texts) < 20:
            raise MissingDataError(
                f"{sysconfig.get_path('stdlib')} has {len(texts)} usable Python files within "
                f"max_characters {self.max_characters}: raise it, or use TextFile."
            )
        val, test = np.searchsorted(characters, characters[-1] * np.array([0.8, 0.9])).tolist()
        files = list(texts)
        self.files = {"train": files[:val], "val": files[val:test], "test": files[test:]}
        return {part: "\n".join(texts[f] for f in files) for part, files in self.files.items()}

    def _texts(self) -> dict[Path, str]:
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        texts: dict[Path, str] = {}
        left, longest = self.max_characters, self.max_characters // 20
        for i in np.random.default_rng(self.seed).permutation(len(files)):
            raw = files[i].read_bytes()
            if raw.isascii() and 0 < len(raw) <= min(left, longest):
                texts[files[i]] = raw.decode("ascii").replace("\r\n", "\n")
                left -= len(raw)
        return texts


def _read(file: Path, vocabulary: str) -> str:
    if vocabulary == "bytes":
        return file.read_bytes().decode("utf-8", errors="surrogateescape")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text (byte {error.start}): convert it, or use vocabulary 'bytes'."
        ) from None
