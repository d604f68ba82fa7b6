"""`Tokenizer`, `Characters` and `Bytes`: text to token ids and back, by Hugging Face's library."""

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

    Special tokens are not recognised in text: "<eos>" in a text is encoded as ordinary characters,
    and callers insert special tokens by their ids. `decode` leaves them out.

    Args:
        backend: the library's tokenizer.

    Attributes:
        chat_template: Jinja template of conversations; None without one.
    """

    chat_template: str | None = None

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.encode_special_tokens = True
        self.backend = backend
        self.vocab_size: int = backend.get_vocab_size()

    def encode(self, text: str) -> Tensor:
        """Return the token ids of a text, int64 [N]."""
        return torch.tensor(self.backend.encode(text, add_special_tokens=False).ids).long()

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the token ids of each text, int64."""
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

    def encode_plain(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the token ids of pieces of text, int64, without added special tokens."""
        return self.encode_batch(texts)

    def encode_prompt(self, text: str) -> Tensor:
        """Return the token ids of a text to be continued, int64 [N].

        They include special tokens that begin a text, but none that end it.
        """
        return self.encode(text)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of token ids [N], without special tokens."""
        return str(self.backend.decode(torch.as_tensor(ids).tolist()))

    def token_size(self, id_: int) -> tuple[int, int]:
        """Return the number of characters, and of bytes in UTF-8, of one token's text."""
        text = self.decode([id_])
        if isinstance(self.backend.decoder, decoders.ByteLevel) and id_ not in self.special_ids:
            # Such a token has one letter for each byte, which may be part of a character only.
            return len(text), len(self.backend.id_to_token(id_) or "")
        return len(text), len(text.encode("utf-8", "replace"))

    def special(self, name: str) -> int | None:
        """Return the id of a special token such as "mask", or None if there is none."""
        return self.backend.token_to_id(f"<{name}>") if f"<{name}>" in self._added else None

    def need(self, name: str) -> int:
        """Return the id of a special token such as "mask".

        Raises:
            ValueError: when the tokenizer has no such token.
        """
        found = self.special(name)
        if found is None:
            raise ValueError(
                f"the tokenizer has no token <{name}>; set special_tokens to true in the data's "
                "settings, or choose a vocabulary made by `graphformer tokenize`"
            )
        return found

    @property
    def unk_id(self) -> int | None:
        """Id of <unk>, in place of characters that the vocabulary lacks."""
        return self.special("unk")

    @property
    def bos_id(self) -> int | None:
        """Id of <bos>, the first token of a text."""
        return self.special("bos")

    @property
    def eos_id(self) -> int | None:
        """Id of <eos>, the last token of a text."""
        return self.special("eos")

    @property
    def mask_id(self) -> int | None:
        """Id of <mask>, in place of a hidden token."""
        return self.special("mask")

    @property
    def cls_id(self) -> int | None:
        """Id of <cls>, the token whose output represents the whole text."""
        return self.special("cls")

    @property
    def sep_id(self) -> int | None:
        """Id of <sep>, between two texts."""
        return self.special("sep")

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of all special tokens, ascending."""
        tokens = self.backend.get_added_tokens_decoder()
        return tuple(sorted(number for number, token in tokens.items() if token.special))

    @cached_property
    def word_starts(self) -> Tensor:
        """Which tokens begin a word, bool [vocab_size].

        WordPiece marks tokens that continue a word by ##. With other tokenizers a word begins with
        a blank, or is a Chinese character, as in BERT.
        """
        pieces = [self.backend.id_to_token(i) or "" for i in range(self.vocab_size)]
        if isinstance(self.backend.model, models.WordPiece):
            starts = [not piece.startswith("##") for piece in pieces]
        elif self.backend.token_to_id("Ġ") is not None:
            # Byte-level tokens write blank, newline and tab as these letters, and the first bytes
            # of Chinese characters as ä to é.
            firsts = [piece[:1] for piece in pieces]
            starts = [first in ("Ġ", "Ċ", "ĉ") or "ä" <= first <= "é" for first in firsts]
        else:  # tokenizers like SentencePiece write ▁ for a blank
            firsts = [piece[:1] for piece in pieces]
            starts = [c.isspace() or c == "▁" or "\u4e00" <= c <= "\u9fff" for c in firsts]
        return torch.tensor([i in self.special_ids or s for i, s in enumerate(starts)])

    def state(self) -> dict[str, Any]:
        """Return the state for checkpoints, in plain types; see `restore_tokenizer`."""
        state = {"json": self.backend.to_str()}
        has_template = self.chat_template is not None
        return {**state, "chat_template": self.chat_template} if has_template else state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as JSON of the `tokenizers` library, by renaming a complete file."""
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
    """One token for each distinct character of a text, in the order of their code points.

    Args:
        characters: any text that contains all of them.
        special_tokens: with the ids after the characters'.

    Raises:
        ValueError: when `encode` receives a character that the vocabulary lacks and it has no
            <unk>.
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
        """Return the ids of the N characters of a text, int64 [N]."""
        points = _code_points(text)  # a hundred times faster than the library
        if not self.characters:
            ids, found = np.zeros(len(points), np.int64), np.zeros(len(points), bool)
        else:
            ids = np.searchsorted(self._points, points).clip(max=len(self.characters) - 1)
            found = self._points[ids] == points
        if not found.all():
            ids = np.where(found, ids, self._unknown(text[int(found.argmin())]))
        return torch.from_numpy(ids)

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids of the characters of each text, int64."""
        return [self.encode(text) for text in texts]

    def _unknown(self, character: str) -> int:
        if self.unk_id is None:
            raise ValueError(
                f"text: got the character {character!r}, expected one of the "
                f"{len(self.characters)} characters of the vocabulary; remove it, or train with "
                "vocabulary 'bytes', which encodes every text"
            )
        return self.unk_id


class Bytes(Tokenizer):
    """One token for each of the 256 bytes of UTF-8, so that every text can be encoded.

    Args:
        special_tokens: with ids from 256 on.
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
        """Return the N bytes of a text in UTF-8, int64 [N]."""
        raw = text.encode("utf-8", errors="surrogateescape")
        return torch.from_numpy(np.frombuffer(raw, np.uint8).astype(np.int64))

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the bytes of each text, int64."""
        return [self.encode(text) for text in texts]


def _byte_character(byte: int) -> str:
    """Return the letter that byte-level tokenizers write for a byte: itself, or one after 255."""
    unprintable = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or b >= 174)]
    return chr(256 + unprintable.index(byte)) if byte in unprintable else chr(byte)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
