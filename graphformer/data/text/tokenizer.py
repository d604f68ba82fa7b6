"""Tokenizers: text to token ids and back, through Hugging Face `tokenizers`."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

SPECIAL_TOKENS = ("<unk>", "<bos>", "<eos>", "<mask>", "<cls>", "<sep>")


class Tokenizer:
    """A tokenizer of the `tokenizers` library, and the ids of its special tokens.

    Special tokens are never read out of a text, only put in by those who know their ids: a text
    that says "<eos>" stays a text. `decode` leaves them out.

    Args:
        backend: the library's tokenizer.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.encode_special_tokens = True
        self.backend = backend
        self.vocab_size: int = backend.get_vocab_size()

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of `text`."""
        return torch.tensor(self.backend.encode(text, add_special_tokens=False).ids).long()

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids (int64) of each text."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [torch.tensor(one.ids).long() for one in encoded]

    def encode_many(self, texts: Sequence[str]) -> list[Tensor]:
        """Old name of `encode_batch`, kept for one release."""
        warnings.warn(
            "Tokenizer.encode_many is now called encode_batch; change it",
            FutureWarning,
            stacklevel=2,
        )
        return self.encode_batch(texts)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of the ids [N], without special tokens."""
        return str(self.backend.decode(torch.as_tensor(ids).tolist()))

    def special(self, name: str) -> int | None:
        """Return the id of a special token such as "mask", or None if there is none."""
        return self.backend.token_to_id(f"<{name}>") if f"<{name}>" in self._added else None

    def need(self, name: str) -> int:
        """Return the id of a special token such as "mask".

        Raises:
            ValueError: the tokenizer has no such token.
        """
        found = self.special(name)
        if found is None:
            raise ValueError(
                f"The tokenizer has no token <{name}>: set special_tokens to true in the data's "
                "settings, or give a vocabulary made by `graphformer tokenize`."
            )
        return found

    @property
    def unk_id(self) -> int | None:
        """What stands for the unknown."""
        return self.special("unk")

    @property
    def bos_id(self) -> int | None:
        """What begins a text."""
        return self.special("bos")

    @property
    def eos_id(self) -> int | None:
        """What ends a text."""
        return self.special("eos")

    @property
    def mask_id(self) -> int | None:
        """What hides a token."""
        return self.special("mask")

    @property
    def cls_id(self) -> int | None:
        """What stands for a whole text."""
        return self.special("cls")

    @property
    def sep_id(self) -> int | None:
        """What separates two texts."""
        return self.special("sep")

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of all special tokens, ascending."""
        tokens = self.backend.get_added_tokens_decoder()
        return tuple(sorted(number for number, token in tokens.items() if token.special))

    @cached_property
    def word_starts(self) -> Tensor:
        """Which tokens begin a word [vocab_size] (bool).

        WordPiece marks what continues a word by ##; in the others a word begins with a blank, or
        is a Chinese character, as in BERT.
        """
        pieces = [self.backend.id_to_token(i) or "" for i in range(self.vocab_size)]
        if isinstance(self.backend.model, models.WordPiece):
            starts = [not piece.startswith("##") for piece in pieces]
        elif self.backend.token_to_id("Ġ") is not None:
            # Byte-level tokens show blank, newline and tab as these, and as ä to é the bytes that
            # Chinese characters begin with.
            firsts = [piece[:1] for piece in pieces]
            starts = [first in ("Ġ", "Ċ", "ĉ") or "ä" <= first <= "é" for first in firsts]
        else:  # ▁ is a blank for tokenizers after SentencePiece
            firsts = [piece[:1] for piece in pieces]
            starts = [c.isspace() or c == "▁" or "\u4e00" <= c <= "\u9fff" for c in firsts]
        return torch.tensor([i in self.special_ids or s for i, s in enumerate(starts)])

    def state(self) -> dict[str, Any]:
        """Return what `restore_tokenizer` needs, in plain types."""
        return {"json": self.backend.to_str()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as the `tokenizers` library's JSON; the file appears when whole."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as f:
            f.write(self.backend.to_str(pretty=True))
        Path(f.name).chmod(0o644)
        Path(f.name).replace(path)

    @cached_property
    def _added(self) -> set[str]:
        return {t.content for t in self.backend.get_added_tokens_decoder().values() if t.special}


class Characters(Tokenizer):
    """One token a character: the distinct characters of a text, in the order of their code points.

    Args:
        characters: any text that has them all.
        special_tokens: come after the characters.

    Raises:
        ValueError: on encoding a character that the vocabulary does not hold, unless it has <unk>.
    """

    def __init__(self, characters: str, special_tokens: Iterable[str] = ()) -> None:
        self.characters = "".join(sorted(set(characters)))
        special = list(special_tokens)
        vocabulary = {token: i for i, token in enumerate([*self.characters, *special])}
        backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens(special)
        super().__init__(backend)
        self._points = _code_points(self.characters)

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of the N characters of `text`."""
        points = _code_points(text)  # a hundred times quicker than the library
        if not self.characters:
            ids, known = np.zeros(len(points), np.int64), np.zeros(len(points), bool)
        else:
            ids = np.searchsorted(self._points, points).clip(max=len(self.characters) - 1)
            known = self._points[ids] == points
        if not known.all():
            ids = np.where(known, ids, self._unknown(text[int(known.argmin())]))
        return torch.from_numpy(ids)

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids (int64) of each text."""
        return [self.encode(text) for text in texts]

    def _unknown(self, character: str) -> int:
        if self.unk_id is None:
            raise ValueError(
                f"The text has the character {character!r}, which is not among the "
                f"{len(self.characters)} characters of the vocabulary: leave it out, or train with "
                "vocabulary 'bytes', which knows every text."
            )
        return self.unk_id


class Bytes(Tokenizer):
    """One token a byte of the text in UTF-8: 256 of them, whatever the text.

    Args:
        special_tokens: come after the bytes.
    """

    def __init__(self, special_tokens: Iterable[str] = ()) -> None:
        special = list(special_tokens)
        vocabulary = {_byte_character(byte): byte for byte in range(256)}
        vocabulary |= {token: 256 + i for i, token in enumerate(special)}
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(special)
        super().__init__(backend)

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of the N bytes of `text`."""
        raw = text.encode("utf-8", errors="surrogateescape")
        return torch.from_numpy(np.frombuffer(raw, np.uint8).astype(np.int64))

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids (int64) of each text."""
        return [self.encode(text) for text in texts]


def _byte_character(byte: int) -> str:
    """What byte-level tokenizers show a byte as: itself if printable, else a letter past 255."""
    unprintable = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or b >= 174)]
    return chr(256 + unprintable.index(byte)) if byte in unprintable else chr(byte)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
