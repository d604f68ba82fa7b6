"""Tokenizers by name, from files and from checkpoints, and those that are learned from texts."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from graphformer.data.io.cache import MissingDataError
from graphformer.data.text.hf_tokenizer import PretrainedTokenizer, read_pretrained_tokenizer
from graphformer.data.text.tokenizer import SPECIAL_TOKENS, Bytes, Characters, Tokenizer

KINDS = ("characters", "bytes", "bpe", "wordpiece")


class Reread:
    """Texts that are made anew each time that they are iterated over, however long they are."""

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
    """Return a tokenizer of one of `KINDS`, learned from texts; the same for the same texts.

    Args:
        kind: "characters", "bytes", "bpe" (byte-level, GPT-2's) or "wordpiece" (BERT's).
        texts: read once, and twice for "wordpiece", which keeps those of an iterator in memory.
        vocab_size: the most tokens, special ones included, of "bpe" and "wordpiece".
        special_tokens: such as "<mask>".
        lowercase: "wordpiece" only: BERT's uncased normalisation.
        progress: show bars while learning.

    Raises ValueError for an unknown kind, and for a vocabulary too small for its kind. Sources:
    Sennrich et al., 2016; Radford et al., 2019; Schuster and Nakajima, 2012; Devlin et al., 2019.
    """
    vocab_size = 8192 if vocab_size is None else vocab_size
    _check(kind, vocab_size, special_tokens)
    if kind == "bytes":
        return Bytes(special_tokens)
    if kind == "characters":
        found: set[str] = set()
        for text in texts:
            found.update(text)
        return Characters("".join(found), special_tokens)
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
    """Return the tokenizer that `vocabulary` names: a kind that is learned, or one that is there.

    Args:
        vocabulary: one of `KINDS`, or the path of what `graphformer tokenize` wrote, or of the
            folder of a run, or of a checkpoint of Hugging Face's.
        texts: what is learned from.
        vocab_size: the most tokens to learn, of "bpe" and "wordpiece".
        special: whether "characters" and "bytes" get special tokens; the others always do.

    Raises ValueError for a name that is neither.
    """
    if vocabulary in KINDS:
        has_special = special or vocabulary in ("bpe", "wordpiece")
        return train_tokenizer(
            vocabulary,
            texts,
            vocab_size=vocab_size,
            special_tokens=SPECIAL_TOKENS if has_special else (),
        )
    path = Path(vocabulary).expanduser()
    if path.is_dir():
        ours = None
        if (path / "config.json").is_file():
            ours = read_pretrained_tokenizer(path)
        return load_tokenizer(path / "tokenizer.json") if ours is None else ours
    if path.suffix == ".json":
        return load_tokenizer(path)
    raise ValueError(
        f"vocabulary is {vocabulary!r}: expected one of {', '.join(map(repr, KINDS))}, a "
        "tokenizer.json that `graphformer tokenize` wrote, or the folder of a run."
    )


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Return the tokenizer of a JSON file, ours or another's.

    Raises:
        MissingDataError: there is no such file.
        ValueError: it is no tokenizer.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingDataError(
            f"There is no tokenizer file {path}: make one with `graphformer tokenize --out {path} "
            "FILES`, or give vocabulary 'characters' or 'bytes'."
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return restore_tokenizer({"json": text})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a tokenizer file of the `tokenizers` library ({error}): make one with "
            "`graphformer tokenize`."
        ) from None


def restore_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer whose `state` a checkpoint holds."""
    if "json" not in state:  # a checkpoint of version 0.1
        return Bytes() if state["kind"] == "bytes" else Characters(state["characters"])
    if "roles" in state:
        backend = tokenizers.Tokenizer.from_str(state["json"])
        return PretrainedTokenizer(backend, state["roles"], max_length=state["max_length"])
    spec = json.loads(state["json"])
    vocabulary = spec["model"]["vocab"]
    special = [token["content"] for token in spec["added_tokens"] if token["special"]]
    tokens = sorted((t for t in vocabulary if t not in special), key=lambda t: vocabulary[t])
    ours: Tokenizer | None = None
    if spec["model"]["type"] == "WordLevel" and all(len(token) == 1 for token in tokens):
        ours = Characters("".join(tokens), special)
    elif spec["model"]["type"] == "BPE" and len(tokens) == 256 and not spec["model"]["merges"]:
        ours = Bytes(special)
    if ours is not None and json.loads(ours.backend.to_str()) == spec:
        return ours
    return Tokenizer(tokenizers.Tokenizer.from_str(state["json"]))


def _train_wordpiece(
    texts: Iterable[str], vocab_size: int, special: Sequence[str], lowercase: bool, progress: bool
) -> Tokenizer:
    texts = list(texts) if isinstance(texts, Iterator) else texts
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The library numbers continuations in the order of a hash table, another one in every process,
    # and ties among merges with them, unless they are tokens already.
    alphabet = _alphabet(backend.normalizer, texts)
    inner = [f"##{c}" for c in alphabet if not unicodedata.category(c).startswith(("P", "Z", "C"))]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*special, *inner], show_progress=progress
    )
    backend.train_from_iterator(texts, trainer)
    plain = tokenizers.Tokenizer(models.WordPiece(backend.get_vocab(), unk_token="<unk>"))
    plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    plain.decoder = decoders.WordPiece()
    plain.add_special_tokens(list(special))
    return Tokenizer(plain)


def _alphabet(normalizer: normalizers.Normalizer, texts: Iterable[str]) -> list[str]:
    """The 1,000 most frequent characters, by code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:1000])


def _check(kind: str, vocab_size: int, special: Sequence[str]) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    if kind == "wordpiece" and "<unk>" not in special:
        raise ValueError("special_tokens lacks '<unk>', which kind 'wordpiece' needs.")
    least = 256 * (kind == "bpe") + len(special) + 1
    if kind in ("bpe", "wordpiece") and vocab_size < least:
        raise ValueError(
            f"vocab_size is {vocab_size}: kind {kind!r} with {len(special)} special tokens needs "
            f"at least {least}."
        )
