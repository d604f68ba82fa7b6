"""`TokenStream`: the token ids of a text, in memory or in a cached file mapped into memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from graphformer.data.io.cache import cache_lock, cache_root, make_cache_folder
from graphformer.data.text.tokenizer import Tokenizer

_GROUP_SIZE = 1 << 20  # characters that are tokenized in one call
_FORMAT = 3  # of the files; a change of the format or of the key invalidates older ones


@dataclass(frozen=True)
class TokenStream:
    """The token ids of a text.

    Attributes:
        tokens: uint16 or uint32, [T].
        starts: first token of each document, int64, ascending; None for a text without documents.
        num_characters, num_bytes: size of the text; bytes in UTF-8.
    """

    tokens: np.ndarray
    starts: np.ndarray | None
    num_characters: int
    num_bytes: int


def encode_in_memory(pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer) -> TokenStream:
    """Return the tokens of a text; each document ends with <eos> if the tokenizer has it.

    Args:
        pieces: of the text, each with whether a document ends after it.
        tokenizer: of the text.
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
    """Return the same as `encode_in_memory`, from a file in the cache that is mapped into memory.

    The file is made once for a content and a tokenizer, and appears when it is complete.

    Args:
        pieces: of the text; not read if the file exists.
        tokenizer: of the text.
        content: what identifies the pieces, such as their checksum.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    key = _key(tokenizer, content)
    folder = cache_root() / "tokens" / key
    if not folder.is_dir():
        with cache_lock(key):  # of several processes, one tokenizes and the others wait
            if not folder.is_dir():
                _write(folder, pieces, tokenizer, dtype)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    tokens = np.zeros(0, dtype)
    if (folder / "tokens").stat().st_size:  # an empty file cannot be mapped
        tokens = np.asarray(np.memmap(folder / "tokens", dtype, mode="r"))
    ends = np.fromfile(folder / "ends", np.int64)
    return TokenStream(tokens, _starts(ends, len(tokens)), about["characters"], about["bytes"])


def token_dtype(vocab_size: int) -> np.dtype:
    """Return uint16 where it holds all token ids, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def _key(tokenizer: Tokenizer, content: str) -> str:
    """Return the name of the cached file: a checksum of all that its tokens depend on.

    The class counts, because special tokens in text are recognised by some classes only, and the
    whole state, because roles decide which token ends a document.
    """
    parts = [_FORMAT, content, type(tokenizer).__name__, tokenizer.state()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Sizes:
    characters = 0
    bytes = 0


def _encode(
    pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, sizes: _Sizes
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield the tokens of groups of pieces, and the counts of all tokens at which documents end."""
    dtype, eos, count = token_dtype(tokenizer.vocab_size), tokenizer.eos_id, 0
    for texts, ends in _groups(pieces):
        sizes.characters += sum(map(len, texts))
        sizes.bytes += sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)
        rows, stops = [], []
        for ids, is_end in zip(tokenizer.encode_plain(texts), ends, strict=True):
            row = ids.numpy().astype(dtype)
            rows.append(np.append(row, dtype.type(eos)) if is_end and eos is not None else row)
            count += len(rows[-1])
            if is_end:
                stops.append(count)
        yield np.concatenate(rows), stops


def _groups(pieces: Iterable[tuple[str, bool]]) -> Iterator[tuple[list[str], list[bool]]]:
    """Yield the pieces in groups of about a million characters."""
    texts: list[str] = []
    ends: list[bool] = []
    size = 0
    for text, end in pieces:
        texts.append(text)
        ends.append(end)
        size += len(text)
        if size >= _GROUP_SIZE:
            yield texts, ends
            texts, ends, size = [], [], 0
    if texts:
        yield texts, ends


def _starts(ends: np.ndarray, num_tokens: int) -> np.ndarray | None:
    """Return where documents begin: at 0, and after every end except that of the last token."""
    if not len(ends):
        return None
    inner = ends[(ends > 0) & (ends < num_tokens)]
    return np.unique(np.concatenate([[0], inner]))


def _write(
    folder: Path, pieces: Iterable[tuple[str, bool]], tokenizer: Tokenizer, dtype: np.dtype
) -> None:
    make_cache_folder(folder.parent)
    sizes, ends = _Sizes(), []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as temporary:
        partial = Path(temporary) / "complete"
        partial.mkdir()
        with (partial / "tokens").open("wb") as out:
            for tokens, stops in _encode(pieces, tokenizer, sizes):
                tokens.astype(dtype, copy=False).tofile(out)
                ends += stops
        np.array(ends, np.int64).tofile(partial / "ends")
        about = {"characters": sizes.characters, "bytes": sizes.bytes}
        (partial / "about.json").write_text(json.dumps(about), encoding="utf-8")
        try:
            partial.rename(folder)  # atomic: the folder is complete as soon as it exists
        except OSError:
            if not folder.is_dir():  # otherwise another process made it first
                raise
