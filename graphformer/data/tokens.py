"""Vocabularies: text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Tokenizer(Protocol):
    """What the text data needs of a tokenizer; its `state` is kept in checkpoints."""

    vocab_size: int

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of `text`."""

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of the ids [N]."""

    def state(self) -> dict[str, Any]:
        """Return what `restore_tokenizer` needs, in plain types."""


class Characters:
    """One token a character: the distinct characters of a text, in the order of their code points.

    Raises:
        ValueError: on encoding a character that the vocabulary does not hold.
    """

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self.vocab_size = len(self.characters)
        self._points = _code_points(self.characters)

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of the N characters of `text`."""
        points = _code_points(text)
        ids = np.searchsorted(self._points, points).clip(max=self.vocab_size - 1)
        unknown = np.flatnonzero(self._points[ids] != points)
        if len(unknown):
            raise ValueError(
                f"The text has the character {text[unknown[0]]!r}, which is not among the "
                f"{self.vocab_size} characters of the vocabulary: leave it out, or train with "
                "vocabulary 'bytes', which knows every text."
            )
        return torch.from_numpy(ids)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of the ids [N]."""
        return "".join(self.characters[i] for i in torch.as_tensor(ids).tolist())

    def state(self) -> dict[str, Any]:
        """Return what `restore_tokenizer` needs, in plain types."""
        return {"kind": "characters", "characters": self.characters}


class Bytes:
    """One token a byte of the text in UTF-8: 256 of them, whatever the text."""

    vocab_size = 256

    def encode(self, text: str) -> Tensor:
        """Return the ids [N] (int64) of the N bytes of `text`."""
        raw = text.encode("utf-8", errors="surrogateescape")
        return torch.from_numpy(np.frombuffer(raw, np.uint8).astype(np.int64))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of the ids [N], with U+FFFD where they are not valid UTF-8."""
        return bytes(torch.as_tensor(ids).tolist()).decode("utf-8", errors="replace")

    def state(self) -> dict[str, Any]:
        """Return what `restore_tokenizer` needs, in plain types."""
        return {"kind": "bytes"}


def make_tokenizer(vocabulary: str, text: str) -> Tokenizer:
    """Return the tokenizer named `vocabulary` ('characters' or 'bytes') for `text`."""
    if vocabulary == "characters":
        return Characters(text)
    if vocabulary == "bytes":
        return Bytes()
    raise ValueError(f"vocabulary is {vocabulary!r}: expected 'characters' or 'bytes'.")


def restore_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer whose `state` a checkpoint holds."""
    return make_tokenizer(state["kind"], state.get("characters", ""))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
