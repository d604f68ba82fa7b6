"""Text for language models: any file, folder or archive, in blocks of tokens."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from graphformer.data.base import DataModule
from graphformer.data.io.text_files import (
    DocumentUnit,
    TextSource,
    character_boundary,
    find_sources,
    fingerprint,
    read_pieces,
    total_size,
)
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.text.blocks import PackedBlocks
from graphformer.data.text.token_cache import TokenStream, encode_in_memory, encode_on_disk
from graphformer.data.text.tokenizer import Tokenizer
from graphformer.data.text.tokenizer_training import Reread, make_tokenizer, restore_tokenizer

SPLITS = ("train", "val", "test")
_IN_MEMORY = 4 << 20  # bytes of text; what is longer is tokenized into a file once


class TokenizedData(DataModule):
    """A data module that has a tokenizer after `setup`, and keeps it in checkpoints.

    A tokenizer that is loaded from a checkpoint replaces the data's own.
    """

    tokenizer: Tokenizer | None = None

    @property
    def vocab_size(self) -> int:
        """The number of distinct tokens."""
        return self.need_tokenizer().vocab_size

    def encode(self, text: str) -> Tensor:
        """Return the token ids [N] of `text`."""
        return self.need_tokenizer().encode(text)

    def decode(self, ids: Tensor | list[int]) -> str:
        """Return the text of the token ids [N]."""
        return self.need_tokenizer().decode(ids)

    def need_tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises:
            RuntimeError: before `setup`.
        """
        if self.tokenizer is None:
            raise RuntimeError(f"{type(self).__name__} has no vocabulary yet: call setup() first.")
        return self.tokenizer

    def state_dict(self) -> dict[str, Any]:
        """Return the vocabulary."""
        return {} if self.tokenizer is None else {"tokenizer": self.tokenizer.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the vocabulary of a checkpoint."""
        if "tokenizer" in state_dict:
            self.tokenizer = restore_tokenizer(state_dict["tokenizer"])


class Text(TokenizedData):
    """Blocks of tokens from the training, validation and test split of a text.

    A batch has x [N] and y [N] (token ids and the ids that follow), pos [N] and `lengths`; see
    `PackedBlocks` for documents. Training draws blocks at random places, new ones every epoch;
    validation and test cover their split once. `vocab_size` and `tokenizer` are there after
    `setup`; a checkpoint holds the vocabulary, and one that is loaded replaces the text's own.
    """

    def __init__(
        self,
        *,
        block_size: int,
        batch_size: int,
        steps_per_epoch: int | None,
        vocabulary: str,
        vocabulary_size: int = 8192,
        special_tokens: bool,
        across_documents: bool,
        seed: int,
    ) -> None:
        super().__init__()
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}: expected 1 or more.")
        self.block_size, self.batch_size = block_size, batch_size
        self.steps_per_epoch, self.vocabulary, self.seed = steps_per_epoch, vocabulary, seed
        self.vocabulary_size, self.special_tokens = vocabulary_size, special_tokens
        self.across_documents = across_documents
        self._streams: dict[str, TokenStream] = {}

    @abstractmethod
    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield a split's text piece by piece, and whether a document ends with the piece."""

    def content(self, split: str) -> str | None:
        """Return what tells a split's text from any other; None: it is short, keep it in memory."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Make the text's vocabulary, unless a checkpoint gave one."""
        if self.tokenizer is None:
            splits = SPLITS if self.vocabulary == "characters" else SPLITS[:1]
            self.tokenizer = make_tokenizer(
                self.vocabulary,
                Reread(lambda: (text for split in splits for text, _ in self.pieces(split))),
                vocab_size=self.vocabulary_size,
                special=self.special_tokens,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the vocabulary of a checkpoint."""
        super().load_state_dict(state_dict)
        self._streams.clear()

    def stream(self, split: str) -> TokenStream:
        """Return the tokens of a split."""
        # Encoded here, not in setup: Lightning loads a checkpoint's vocabulary after setup.
        if split not in self._streams:
            content, tokenizer = self.content(split), self.need_tokenizer()
            self._streams[split] = (
                encode_in_memory(self.pieces(split), tokenizer)
                if content is None
                else encode_on_disk(self.pieces(split), tokenizer, content)
            )
        return self._streams[split]

    def text_density(self, split: str) -> tuple[float, float]:
        """Return the mean number of characters, and of bytes, of a split's tokens."""
        stream = self.stream(split)
        count = max(1, len(stream.tokens))
        return stream.num_characters / count, stream.num_bytes / count

    def batches(self, split: str) -> BatchLoader:
        """Return random blocks for training, and blocks that cover the split otherwise."""
        if split != "train":
            blocks = self._windows(split, self.block_size)
            return BatchLoader(blocks, BatchSampler(len(blocks), self.batch_size))
        crops, steps = self._windows(split, 1), self.steps_per_epoch
        if steps is None:  # as many as it takes to draw the text's number of tokens
            steps = max(1, len(crops.tokens) // (self.block_size * self.batch_size))
        order = BatchSampler(len(crops), self.batch_size, num_batches=steps, seed=self.seed)
        return BatchLoader(crops, order)

    def _windows(self, split: str, stride: int) -> PackedBlocks:
        stream = self.stream(split)
        if len(stream.tokens) <= self.block_size:
            raise ValueError(
                f"The {split} split of the text has {len(stream.tokens)} tokens, too few for "
                f"block_size {self.block_size}: choose a smaller block_size or a longer text."
            )
        across = self.across_documents and stream.starts is not None
        return PackedBlocks(stream.tokens, self.block_size, stride, stream.starts, across=across)


class TextFile(Text):
    """Blocks of tokens from a text file, or from the files of a folder or zip archive in order.

    `path` is looked for as it stands, then under the data root. The last `val_fraction` of the
    text is for validation; the split before it of `test_fraction` is the test split, and without
    one the test split is the validation split, as is usual with tiny Shakespeare. A text of more
    than 4 MB is tokenized into a file once, and that is mapped into memory.

    Args:
        path: file, folder or zip archive.
        block_size: tokens a block.
        batch_size: blocks a batch.
        steps_per_epoch: by default as many as it takes to draw the text's number of tokens.
        vocabulary: "characters", "bytes", a file made by `graphformer tokenize`, the folder of a
            run, or "bpe" or "wordpiece" to learn one from the training split.
        vocabulary_size: the most tokens to learn.
        special_tokens: whether "characters" and "bytes" get <mask>, <eos> and so on.
        documents: what is a document: a "file", "line" or "paragraph"; None: the text is one.
        across_documents: attend across documents unless the pattern `Documents` forbids it.
        glob: which files of a folder or archive.
        val_fraction, test_fraction: see above.
        root: the data root.
        seed: of the places that are drawn.
        stream: whether to tokenize into a file; None: from 4 MB on.

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
        vocabulary_size: int = 8192,
        special_tokens: bool = False,
        documents: DocumentUnit | None = None,
        across_documents: bool = False,
        glob: str = "**/*.txt",
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        root: str | None = None,
        seed: int = 0,
        stream: bool | None = None,
    ) -> None:
        super().__init__(
            block_size=block_size,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            special_tokens=special_tokens,
            across_documents=across_documents,
            seed=seed,
        )
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        if not (val_fraction > 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} leave no text for "
                "a split: expected val_fraction above 0 and a sum below 1."
            )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.glob, self.documents = path, root, glob, documents
        self.val_fraction, self.test_fraction, self.on_disk = val_fraction, test_fraction, stream

    def prepare_data(self) -> None:
        """Look for the text."""
        self._sources()

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield a split's text piece by piece, and whether a document ends with the piece."""
        sources, raw = self._sources(), self.vocabulary == "bytes"
        yield from read_pieces(sources, *self._range(split), documents=self.documents, raw=raw)

    def content(self, split: str) -> str | None:
        """Return the split's checksum; None for a text to be kept in memory."""
        sources = self._sources()
        on_disk = total_size(sources) > _IN_MEMORY if self.on_disk is None else self.on_disk
        if not on_disk:
            return None
        start, stop = self._range(split)
        sizes = [source.size for source in sources] if self.documents == "file" else []
        return f"{fingerprint(sources, start, stop)} {self.documents} {start} {sizes}"

    def _range(self, split: str) -> tuple[int, int]:
        """A split's first byte, and the first behind it, never within a character."""
        sources = self._sources()
        size = total_size(sources)
        test = int(size * (1 - self.val_fraction - self.test_fraction))
        val = int(size * (1 - self.val_fraction))
        if self.vocabulary != "bytes":
            test, val = (character_boundary(sources, place) for place in (test, val))
        if split == "train":
            return 0, test
        return (test, val) if split == "test" and self.test_fraction else (val, size)

    def _sources(self) -> list[TextSource]:
        return find_sources(self.path, self.glob, self.root)
