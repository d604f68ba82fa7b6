"""`PretrainedTokenizer`: the tokenizer of a Hugging Face checkpoint, read from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor

from graphformer.data.text.chat import Message, render_chat
from graphformer.data.text.tokenizer import Tokenizer

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_UNLIMITED = 1_000_000  # `transformers` writes a far larger number for "no limit"


class PretrainedTokenizer(Tokenizer):
    """The tokenizer of a checkpoint, with the same ids as in `transformers`.

    Unlike `Tokenizer`, it adds the checkpoint's special tokens to a text, and recognises special
    tokens that are written in it.

    Args:
        backend: the library's tokenizer, from tokenizer.json.
        roles: the token of each role: "mask", "cls" and so on.
        max_length: number of positions of the checkpoint; None: unlimited.
        chat_template: Jinja template of conversations; None for a model without one.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        roles: Mapping[str, str],
        *,
        max_length: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(backend)
        backend.encode_special_tokens = False
        backend.no_padding()
        backend.no_truncation()
        self.roles, self.max_length = dict(roles), max_length
        self.chat_template = chat_template

    def encode(self, text: str, pair: str | None = None) -> Tensor:
        """Return the ids of a text, or of a pair of texts, with special tokens, int64 [N]."""
        return torch.tensor(self.backend.encode(text, pair).ids).long()

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids of each text with its special tokens, int64."""
        return [torch.tensor(ids).long() for ids in self.ids(texts)]

    def ids(self, texts: Sequence[str], *, max_length: int | None = None) -> list[list[int]]:
        """Return the ids of each text with its special tokens, cut to `max_length` in total."""
        if max_length is not None:
            self.backend.enable_truncation(max_length)
        encoded = self.backend.encode_batch_fast(list(texts))
        self.backend.no_truncation()
        return [one.ids for one in encoded]

    def special(self, name: str) -> int | None:
        """Return the id of the token with a role such as "mask", or None if there is none."""
        token = self.roles.get(name)
        return None if token is None else self.backend.token_to_id(token)

    def encode_prompt(self, text: str) -> Tensor:
        """Return the ids of a text with the special tokens that precede it, int64 [N]."""
        encoding = self.backend.encode(text)
        stop = len(encoding.ids)
        while stop and encoding.special_tokens_mask[stop - 1]:
            stop -= 1
        return torch.tensor(encoding.ids[:stop]).long()

    def encode_plain(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the ids of pieces of text as they are within a text, int64."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [torch.tensor(one.ids).long() for one in encoded]

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> str:
        """Return the text of a conversation, with its special tokens written in it.

        Args:
            messages: each with "role" ("system", "user" or "assistant") and "content".
            add_generation_prompt: whether the text ends with the beginning of the model's answer.

        Raises:
            ValueError: when the checkpoint has no chat template, or it refuses the messages.
        """
        if self.chat_template is None:
            raise ValueError(
                "chat_template: got a checkpoint without one, expected a chat model; use plain "
                "prompts"
            )
        tokens = {f"{role}_token": token for role, token in self.roles.items()}
        return render_chat(
            self.chat_template, messages, tokens, add_generation_prompt=add_generation_prompt
        )

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> Tensor:
        """Return the ids of a conversation, int64 [N]; see `apply_chat_template`."""
        text = self.apply_chat_template(messages, add_generation_prompt=add_generation_prompt)
        return self.encode_plain([text])[0]

    def state(self) -> dict[str, Any]:
        """Return the state of `Tokenizer`, with what a checkpoint adds to it."""
        own = {"roles": self.roles, "max_length": self.max_length}
        return {**super().state(), **own, "chat_template": self.chat_template}


def read_pretrained_tokenizer(folder: str | os.PathLike[str]) -> PretrainedTokenizer | None:
    """Return the tokenizer of a checkpoint's folder, or None where it has no tokenizer.json.

    Raises:
        ValueError: when a file is not valid.
    """
    folder = Path(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise ValueError(
            f"{file} is not a tokenizer of the `tokenizers` library: {error}"
        ) from None
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= _settings(folder / name)
    roles = {role: _content(settings.get(f"{role}_token")) for role in ROLES}
    limit = settings.get("model_max_length")
    is_limited = isinstance(limit, int) and limit < _UNLIMITED
    return PretrainedTokenizer(
        backend,
        {role: token for role, token in roles.items() if token is not None},
        max_length=limit if is_limited else None,
        chat_template=_chat_template(folder, settings.get("chat_template")),
    )


def _chat_template(folder: Path, setting: Any) -> str | None:
    """Return the template of a folder, or of tokenizer_config.json, which may name several."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if isinstance(setting, list):
        setting = {each["name"]: each["template"] for each in setting}.get("default")
    return setting


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _settings(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from None
    return found
