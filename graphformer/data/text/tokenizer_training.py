"""Tokenizers trained on texts, and read by name, from files and from checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from graphformer.data.io.cache import MissingDataError, cache_root, make_cache_folder
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer, read_pretrained_tokenizer
from graphformer.data.text.tokenizer import SPECIAL_TOKENS, Bytes, Characters, Tokenizer

KINDS = ("characters", "bytes", "bpe", "wordpiece")
_MAX_ALPHABET = 1000  # characters of "wordpiece", the library's limit


class ReiterableTexts:
    """Texts that can be iterated over several times: each iteration calls `read`."""

    def __init__(self, read: Callable[[], Iterator[str]]) -> None:
        self.read = read

    def __iter__(self) -> Iterator[str]:
        return self.read()


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    lowercase: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Return a tokenizer of one of `KINDS`, trained on texts; the same for the same texts.

    Args:
        kind: "characters", "bytes", "bpe" (byte-level, GPT-2's) or "wordpiece" (BERT's).
        texts: iterated over once; twice for "wordpiece", which stores the texts of an iterator.
        vocab_size: maximum number of tokens of "bpe" and "wordpiece", special ones included.
        special_tokens: such as "<mask>".
        lowercase: for "wordpiece": BERT's uncased normalisation.
        progress: whether to show progress bars.

    Raises:
        ValueError: when the kind is unknown, or when vocab_size is too small for it.

    Source: Sennrich et al., 2016; Radford et al., 2019; Schuster and Nakajima, 2012; Devlin et al.,
    2019.
    """
    vocab_size = 8192 if vocab_size is None else vocab_size
    _check(kind, vocab_size, special_tokens)
    if kind == "bytes":
        return Bytes(special_tokens)
    if kind == "characters":
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return Characters("".join(characters), special_tokens)
    if kind == "wordpiece":
        return _train_wordpiece(texts, vocab_size, special_tokens, lowercase, progress)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=progress,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def make_tokenizer(
    vocabulary: str, texts: Iterable[str], *, vocab_size: int = 8192, special: bool = True
) -> Tokenizer:
    """Return the tokenizer that `vocabulary` names, trained or read.

    Args:
        vocabulary: one of `KINDS` to train; or a file of `graphformer tokenize`, or the folder of a
            run or of a Hugging Face checkpoint, to read.
        texts: to train on.
        vocab_size: maximum number of tokens of "bpe" and "wordpiece".
        special: whether "characters" and "bytes" have special tokens; the other kinds always do.

    Raises:
        MissingDataError: when the file does not exist.
        ValueError: when `vocabulary` is neither a kind nor a path.
    """
    if vocabulary in KINDS:
        if vocabulary in ("bpe", "wordpiece"):
            return _train_once(vocabulary, texts, vocab_size)
        return train_tokenizer(vocabulary, texts, special_tokens=SPECIAL_TOKENS if special else ())
    path = Path(vocabulary).expanduser()
    if path.is_dir():
        # A checkpoint has a config.json, and its tokenizer has special tokens of its own.
        pretrained = read_pretrained_tokenizer(path) if (path / "config.json").is_file() else None
        return pretrained or load_tokenizer(path / "tokenizer.json")
    if path.suffix == ".json":
        return load_tokenizer(path)
    raise ValueError(
        f"vocabulary: got {vocabulary!r}, expected one of {', '.join(map(repr, KINDS))}, a "
        "tokenizer.json of `graphformer tokenize`, or the folder of a run"
    )


def _train_once(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a tokenizer that is trained once for the same texts, then read from the cache."""
    key = hashlib.sha256(f"{tokenizers.__version__} {kind} {vocab_size}".encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        key.update(len(data).to_bytes(8, "little") + data)
    folder = cache_root() / "tokenizers"
    file = folder / f"{key.hexdigest()}.json"
    if file.is_file():
        with suppress(ValueError):  # a damaged file
            return load_tokenizer(file)
    make_cache_folder(folder)
    tokenizer = train_tokenizer(kind, texts, vocab_size=vocab_size)
    tokenizer.save(file)
    return tokenizer


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Return the tokenizer of a JSON file of the `tokenizers` library.

    Raises:
        MissingDataError: when the file does not exist.
        ValueError: when it is not a tokenizer.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingDataError(
            f"there is no tokenizer file {path}; make one with `graphformer tokenize --out {path} "
            "FILES`, or use vocabulary 'characters' or 'bytes'"
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return restore_tokenizer({"json": text})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a tokenizer file of the `tokenizers` library ({error}); make one with "
            "`graphformer tokenize`"
        ) from None


def restore_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer of a `Tokenizer.state`, as checkpoints contain it."""
    tokenizer = _restore_without_template(state)
    tokenizer.chat_template = state.get("chat_template")
    return tokenizer


def _restore_without_template(state: dict[str, Any]) -> Tokenizer:
    if "json" not in state:  # checkpoints of version 0.1
        return Bytes() if state["kind"] == "bytes" else Characters(state["characters"])
    if "roles" in state:
        backend = tokenizers.Tokenizer.from_str(state["json"])
        return PretrainedTokenizer(
            backend,
            state["roles"],
            max_length=state["max_length"],
            chat_template=state.get("chat_template"),
        )
    spec = json.loads(state["json"])
    vocabulary = spec["model"]["vocab"]
    special = [token["content"] for token in spec["added_tokens"] if token["special"]]
    tokens = sorted((t for t in vocabulary if t not in special), key=lambda t: vocabulary[t])
    # Characters and Bytes encode faster than the library; use them where they are equivalent.
    fast: Tokenizer | None = None
    if spec["model"]["type"] == "WordLevel" and all(len(token) == 1 for token in tokens):
        fast = Characters("".join(tokens), special)
    elif spec["model"]["type"] == "BPE" and len(tokens) == 256 and not spec["model"]["merges"]:
        fast = Bytes(special)
    if fast is not None and json.loads(fast.backend.to_str()) == spec:
        return fast
    return Tokenizer(tokenizers.Tokenizer.from_str(state["json"]))


def _train_wordpiece(
    texts: Iterable[str], vocab_size: int, special: Sequence[str], lowercase: bool, progress: bool
) -> Tokenizer:
    texts = list(texts) if isinstance(texts, Iterator) else texts
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The library numbers tokens that continue a word ("##a") in the order of a hash table, which
    # differs between processes, and breaks ties among merges by these numbers. It keeps the order
    # of special tokens, so these tokens are declared as such, and removed from them afterwards.
    counts = _count_characters(backend.normalizer, texts)
    alphabet, inner = _alphabet(counts, vocab_size - len(special))
    limits: dict[str, Any] = {}
    if len(alphabet) < min(len(counts), _MAX_ALPHABET):  # not all characters fit the vocabulary
        limits = {"initial_alphabet": alphabet, "limit_alphabet": len(alphabet)}
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *inner],
        show_progress=progress,
        **limits,
    )
    backend.train_from_iterator(texts, trainer)
    plain = tokenizers.Tokenizer(models.WordPiece(backend.get_vocab(), unk_token="<unk>"))
    plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    plain.decoder = decoders.WordPiece()
    plain.add_special_tokens(list(special))
    return Tokenizer(plain)


def _count_characters(normalizer: normalizers.Normalizer, texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    return counts


def _alphabet(counts: Counter[str], size: int) -> tuple[list[str], list[str]]:
    """Return characters, by code point, and the tokens that continue a word with one of them.

    The most frequent characters are chosen, at most 1,000 and so many that both lists have no more
    than `size` tokens.
    """
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[:_MAX_ALPHABET]
    needed = np.cumsum([1 + _continues_words(c) for c in frequent])
    alphabet = sorted(frequent[: int((needed <= size).sum())])
    return alphabet, [f"##{c}" for c in alphabet if _continues_words(c)]


def _continues_words(character: str) -> bool:
    """Whether a character may follow another in a word: it is no punctuation, blank or control."""
    return not unicodedata.category(character).startswith(("P", "Z", "C"))


def _check(kind: str, vocab_size: int, special: Sequence[str]) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(map(repr, KINDS))}")
    if kind == "wordpiece" and "<unk>" not in special:
        raise ValueError(
            f"special_tokens: got {list(special)}, expected '<unk>' among them for kind 'wordpiece'"
        )
    minimum = 256 * (kind == "bpe") + len(special) + 1
    if kind in ("bpe", "wordpiece") and vocab_size < minimum:
        raise ValueError(
            f"vocab_size: got {vocab_size}, expected {minimum} or more for kind {kind!r} with "
            f"{len(special)} special tokens"
        )
