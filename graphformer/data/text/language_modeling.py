"""Text for language models: `TextFile` makes blocks of tokens of a file, folder or archive."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphformer.data.base import SPLITS
from graphformer.data.batch import Batch, pack_tokens
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
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.blocks import PackedBlocks
from graphformer.data.text.token_cache import TokenStream, encode_in_memory, encode_on_disk
from graphformer.data.text.tokenizer_training import ReiterableTexts, make_tokenizer
from graphformer.deprecated import renamed_keywords

_IN_MEMORY = 4 << 20  # bytes of text; a longer one is tokenized into a file once


class TextBlocks(TokenizedData):
    """Blocks of tokens from a text; the base of `TextFile`, `TextRecords` and `StandardLibrary`.

    A batch has x and y (token ids and the ids that follow, [N]), pos [N] and lengths; see
    `PackedBlocks` for documents. Training draws blocks at random positions, other ones in every
    epoch; the blocks of validation and test cover their split once.

    Args:
        block_size: tokens in a block.
        batch_size: blocks in a batch.
        steps_per_epoch: training batches in an epoch; None: as many as contain the text's number
            of tokens.
        vocabulary: see `make_tokenizer`.
        vocabulary_size: maximum number of tokens to train.
        special_tokens: whether "characters" and "bytes" have special tokens.
        across_documents: whether a block with several documents is one sample.
        seed: of the random positions.

    Raises:
        ValueError: when block_size is below 1.
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
            raise ValueError(f"block_size: got {block_size}, expected 1 or more")
        self.block_size, self.batch_size = block_size, batch_size
        self.steps_per_epoch, self.vocabulary, self.seed = steps_per_epoch, vocabulary, seed
        self.vocabulary_size, self.special_tokens = vocabulary_size, special_tokens
        self.across_documents = across_documents
        self._streams: dict[str, TokenStream] = {}

    @abstractmethod
    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield the text of a split in pieces, each with whether a document ends after it."""

    def cache_key(self, split: str) -> str | None:
        """Return what identifies a split's text in the token cache; None: keep it in memory."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Make the tokenizer, from all splits for "characters", unless a checkpoint had one."""
        if self.tokenizer is None:
            splits = SPLITS if self.vocabulary == "characters" else SPLITS[:1]
            self.tokenizer = make_tokenizer(
                self.vocabulary,
                ReiterableTexts(lambda: (text for s in splits for text, _ in self.pieces(s))),
                vocab_size=self.vocabulary_size,
                special=self.special_tokens,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the tokenizer of a checkpoint, and drop tokens of another one."""
        super().load_state_dict(state_dict)
        self._streams.clear()

    def stream(self, split: str) -> TokenStream:
        """Return the tokens of a split."""
        # Encoded here, not in setup: Lightning loads a checkpoint's tokenizer after setup.
        if split not in self._streams:
            key, tokenizer = self.cache_key(split), self.need_tokenizer()
            self._streams[split] = (
                encode_in_memory(self.pieces(split), tokenizer)
                if key is None
                else encode_on_disk(self.pieces(split), tokenizer, key)
            )
        return self._streams[split]

    def text_density(self, split: str) -> tuple[float, float]:
        """Return the mean number of characters, and of bytes, of a split's predicted tokens.

        The first token of each document is not predicted, so neither it nor its text counts.
        """
        stream, tokenizer = self.stream(split), self.need_tokenizer()
        firsts = np.zeros(1, np.int64) if stream.starts is None else stream.starts
        characters, size = stream.num_characters, stream.num_bytes
        ids, counts = np.unique(stream.tokens[firsts[: len(stream.tokens)]], return_counts=True)
        for id_, count in zip(ids.tolist(), counts.tolist(), strict=True):
            one = tokenizer.token_size(id_)
            characters, size = characters - count * one[0], size - count * one[1]
        predicted = max(1, len(stream.tokens) - len(firsts))
        return characters / predicted, size / predicted

    def pack(self, inputs: Sequence[str]) -> Batch:
        """Return texts as a batch of token ids, without the end token of a document."""
        return pack_tokens([self.need_tokenizer().encode_prompt(text) for text in inputs])

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return random blocks for training, and blocks that cover the split otherwise."""
        if split != "train":
            blocks = self._blocks(split, self.block_size)
            return BatchLoader(blocks, BatchSampler(len(blocks), self.batch_size))
        blocks, steps = self._blocks(split, 1), self.steps_per_epoch
        if steps is None:
            world_size = self._ranks()[1]
            steps = max(1, len(blocks.tokens) // (self.block_size * self.batch_size * world_size))
        sampler = BatchSampler(len(blocks), self.batch_size, num_batches=steps, seed=self.seed)
        return BatchLoader(blocks, sampler)

    def _blocks(self, split: str, stride: int) -> PackedBlocks:
        stream = self.stream(split)
        if len(stream.tokens) <= self.block_size:
            raise ValueError(
                f"block_size: got {self.block_size}, but the {split} split of the text has "
                f"{len(stream.tokens)} tokens; choose a smaller block_size or a longer text"
            )
        across = self.across_documents and stream.starts is not None
        return PackedBlocks(stream.tokens, self.block_size, stride, stream.starts, across=across)


class TextFile(TextBlocks):
    """Blocks of tokens from a text file, or from the sorted files of a folder or zip archive.

    The last `val_fraction` of the text is the validation split, and the `test_fraction` before it
    the test split; without a test fraction the validation split is used for both, as is usual with
    tiny Shakespeare. A text of more than 4 MB is tokenized once into a file that is mapped into
    memory.

    Args:
        path: file, folder or zip archive, as it is or under the data root; files may be .gz.
        block_size: tokens in a block.
        batch_size: blocks in a batch.
        steps_per_epoch: training batches in an epoch; by default as many as contain the text's
            number of tokens.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a run, or
            "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        special_tokens: whether "characters" and "bytes" have <mask>, <eos> and so on.
        documents: what is a document: a "file", "line" or "paragraph"; None: the whole text.
        across_documents: whether samples contain several documents, among which the pattern
            `Documents` prevents attention.
        glob: which files of a folder or archive.
        encoding: of the files, such as "utf-16".
        val_fraction, test_fraction: of the text.
        root: the data root.
        seed: of the random positions of blocks.
        stream: whether to tokenize into a file; None: from 4 MB on.

    Raises:
        MissingDataError: when there is no such file or folder, or when no file matches `glob`.
        ValueError: when a fraction leaves a split empty, when a file is not in the encoding and the
            vocabulary is not "bytes", or when the text is too short.
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
        encoding: str = "utf-8",
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
        if not (val_fraction > 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction and test_fraction: got {val_fraction} and {test_fraction}, expected "
                "val_fraction above 0, test_fraction 0 or more, and a sum below 1"
            )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.glob, self.documents = path, root, glob, documents
        self.encoding = encoding
        self.val_fraction, self.test_fraction, self.on_disk = val_fraction, test_fraction, stream

    def prepare_data(self) -> None:
        """Check that the text exists."""
        self._sources()

    def pieces(self, split: str) -> Iterator[tuple[str, bool]]:
        """Yield the text between the split's first and last byte in pieces."""
        sources, raw = self._sources(), self.vocabulary == "bytes"
        yield from read_pieces(sources, *self._range(split), documents=self.documents, raw=raw)

    def cache_key(self, split: str) -> str | None:
        """Return the checksum of the split and how it is read; None for a text kept in memory."""
        sources = self._sources()
        on_disk = total_size(sources) > _IN_MEMORY if self.on_disk is None else self.on_disk
        if not on_disk:
            return None
        start, stop = self._range(split)
        sizes = [source.size for source in sources] if self.documents == "file" else []
        raw = "raw" if self.vocabulary == "bytes" else "text"
        return f"{fingerprint(sources, start, stop)} {raw} {self.documents} {start} {sizes}"

    def _range(self, split: str) -> tuple[int, int]:
        """Return the first byte of a split and the one after its last, at character boundaries."""
        sources = self._sources()
        size = total_size(sources)
        test = int(size * (1 - self.val_fraction - self.test_fraction))
        val = int(size * (1 - self.val_fraction))
        if self.vocabulary != "bytes":
            test, val = (character_boundary(sources, position) for position in (test, val))
        if split == "train":
            return 0, test
        return (test, val) if split == "test" and self.test_fraction else (val, size)

    def _sources(self) -> list[TextSource]:
        return find_sources(self.path, self.glob, self.root, self.encoding)
