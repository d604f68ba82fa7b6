"""A text as one row of token ids: in memory, or in a file made once that is mapped into it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor

from graphformer.data.io.cache import cache_root, make_cache_folder
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer
from graphformer.data.text.tokenizer import Tokenizer

_AT_ONCE = 1 << 20  # characters


@dataclass(frozen=True)
class TokenStream:
    """The token ids [T] of a text.

    Attributes:
        tokens: uint16 or uint32 [T].
        starts: where its documents begin, int64 ascending; None for a text that is one.
        num_characters, num_bytes: the size of the text, in UTF-8.
    """

    tokens: np.ndarray
    starts: np.ndarray | None
    num_characters: int
    num_bytes: int


def encode_in_memory(pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer) -> TokenStream:
    """Return the tokens of a text given piece by piece, each with whether a document ends there.

    A document ends with the tokenizer's <eos>, where it has one.
    """
    sizes = _Sizes()
    encoded = list(_encode(pieces, tokenizer, sizes))
    empty = np.zeros(0, token_dtype(tokenizer.vocab_size))
    tokens = np.concatenate([empty, *(tokens for tokens, _ in encoded)])
    ends = np.fromiter(chain.from_iterable(ends for _, ends in encoded), np.int64)
    return TokenStream(tokens, _starts(ends, len(tokens)), sizes.characters, sizes.bytes)


def encode_on_disk(
    pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, content: str
) -> TokenStream:
    """As `encode_in_memory`, by way of a file that is mapped into memory.

    The file lies in the cache folder, is made once for a content and a tokenizer, and appears
    only when it is whole.

    Args:
        pieces: the text; not read if the file is there.
        tokenizer: the tokenizer.
        content: what tells this text from any other, such as its checksum.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    key = hashlib.sha256(f"2 {content} {tokenizer.state()['json']}".encode()).hexdigest()
    folder = cache_root() / "tokens" / key
    if not folder.is_dir():
        _write(folder, pieces, tokenizer, dtype)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    tokens = np.zeros(0, dtype)
    if (folder / "tokens").stat().st_size:  # an empty file cannot be mapped
        tokens = np.asarray(np.memmap(folder / "tokens", dtype, mode="r"))
    ends = np.fromfile(folder / "ends", np.int64)
    return TokenStream(tokens, _starts(ends, len(tokens)), about["characters"], about["bytes"])


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest type that holds the token ids."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class _Sizes:
    characters = 0
    bytes = 0


def _encode(
    pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, sizes: _Sizes
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Tokens of many pieces at once, and behind which token of all a document ends."""
    dtype, eos, done = token_dtype(tokenizer.vocab_size), tokenizer.eos_id, 0
    for texts, ends in _groups(pieces):
        sizes.characters += sum(map(len, texts))
        sizes.bytes += sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)
        rows, stops = [], []
        for ids, is_end in zip(_plain(tokenizer, texts), ends, strict=True):
            row = ids.numpy().astype(dtype)
            rows.append(np.append(row, dtype.type(eos)) if is_end and eos is not None else row)
            done += len(rows[-1])
            if is_end:
                stops.append(done)
        yield np.concatenate(rows), stops


def _groups(pieces: Iterable[tuple[str, bool]]) -> Iterator[tuple[list[str], list[bool]]]:
    texts: list[str] = []
    ends: list[bool] = []
    size = 0
    for text, end in pieces:
        texts.append(text)
        ends.append(end)
        size += len(text)
        if size >= _AT_ONCE:
            yield texts, ends
            texts, ends, size = [], [], 0
    if texts:
        yield texts, ends


def _starts(ends: np.ndarray, num_tokens: int) -> np.ndarray | None:
    """Where documents begin: at 0, and behind every end but the last token's."""
    if not len(ends):
        return None
    inner = ends[(ends > 0) & (ends < num_tokens)]
    return np.unique(np.concatenate([[0], inner]))


def _write(
    folder: Path, pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, dtype: np.dtype
) -> None:
    make_cache_folder(folder.parent)
    sizes, ends = _Sizes(), []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as made:
        partial = Path(made) / "whole"
        partial.mkdir()
        with (partial / "tokens").open("wb") as out:
            for tokens, stops in _encode(pieces, tokenizer, sizes):
                tokens.astype(dtype, copy=False).tofile(out)
                ends += stops
        np.array(ends, np.int64).tofile(partial / "ends")
        about = {"characters": sizes.characters, "bytes": sizes.bytes}
        (partial / "about.json").write_text(json.dumps(about), encoding="utf-8")
        try:
            partial.rename(folder)  # a folder appears at once and whole
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise


def _plain(tokenizer: Tokenizer, texts: list[str]) -> list[Tensor]:
    """The ids of pieces of a text, without what a checkpoint's tokenizer puts around each text."""
    if isinstance(tokenizer, PretrainedTokenizer):
        return tokenizer.plain(texts)
    return tokenizer.encode_batch(texts)
