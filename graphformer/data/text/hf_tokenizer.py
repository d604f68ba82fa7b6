"""The tokenizer of a checkpoint, from the files that Hugging Face's folders have."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor

from graphformer.data.text.tokenizer import Tokenizer

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
ENDLESS = 1_000_000
"""What `transformers` writes for no limit is far above this."""


class PretrainedTokenizer(Tokenizer):
    """The tokenizer of a checkpoint: it gives the ids that `transformers` gives.

    So special tokens are put around a text as the checkpoint wants it, and read out of a text that
    names them, other than those of our own tokenizers.

    Args:
        backend: the library's tokenizer, its tokenizer.json.
        roles: the tokens for "mask", "cls" and so on.
        max_length: how many tokens `encode_batch` keeps of a text when it is asked to truncate;
            None for all.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        roles: Mapping[str, str],
        *,
        max_length: int | None = None,
    ) -> None:
        super().__init__(backend)
        backend.encode_special_tokens = False
        backend.no_padding()
        backend.no_truncation()
        self.roles, self.max_length = dict(roles), max_length

    def encode(self, text: str, pair: str | None = None) -> Tensor:
        """The ids [N] (int64) of a text, or of a pair of texts, with its special tokens."""
        return torch.tensor(self.backend.encode(text, pair).ids).long()

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """The ids (int64) of each text, with its special tokens."""
        return [torch.tensor(ids).long() for ids in self.ids(texts)]

    def ids(self, texts: Sequence[str], *, max_length: int | None = None) -> list[list[int]]:
        """The ids of each text, with its special tokens, of no more than `max_length`."""
        if max_length is not None:
            self.backend.enable_truncation(max_length)
        encoded = self.backend.encode_batch_fast(list(texts))
        self.backend.no_truncation()
        return [one.ids for one in encoded]

    def special(self, name: str) -> int | None:
        """The id of a special token such as "mask", or None if there is none."""
        token = self.roles.get(name)
        return None if token is None else self.backend.token_to_id(token)

    def plain(self, texts: Sequence[str]) -> list[Tensor]:
        """The ids (int64) of pieces of text, with nothing put around them."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [torch.tensor(one.ids).long() for one in encoded]

    def state(self) -> dict[str, Any]:
        """Return what `restore_tokenizer` needs, in plain types."""
        return {**super().state(), "roles": self.roles, "max_length": self.max_length}


def read_pretrained_tokenizer(folder: str | os.PathLike[str]) -> PretrainedTokenizer | None:
    """The tokenizer of a checkpoint's folder, from its tokenizer.json; None where it has none.

    Raises ValueError for a file that cannot be read.
    """
    folder = Path(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise ValueError(f"{file} is no tokenizer of the `tokenizers` library: {error}.") from None
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= _settings(folder / name)
    roles = {role: _content(settings.get(f"{role}_token")) for role in ROLES}
    limit = settings.get("model_max_length")
    known = isinstance(limit, int) and limit < ENDLESS
    return PretrainedTokenizer(
        backend,
        {role: token for role, token in roles.items() if token is not None},
        max_length=limit if known else None,
    )


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _settings(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no readable JSON: {error}.") from None
    return found
