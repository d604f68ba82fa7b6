"""`ChatEncoder`: conversations to token ids by a template, and which of them are answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data.text.chat import Message
from graphformer.data.text.hf_tokenizer import ROLES, PretrainedTokenizer
from graphformer.data.text.post_training.chat_template import ChatTemplate
from graphformer.data.text.tokenizer import Tokenizer

LossOn = Literal["all", "last"]
"""Which answers of a conversation have a loss."""
_FIRST_PLACEHOLDER = 0xFDD2


class EncodedChat(NamedTuple):
    """Token ids of a conversation, int64 [n], and which belong to answers, bool [n]."""

    ids: np.ndarray
    is_answer: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The ids of answers, `IGNORE_INDEX` elsewhere, int64 [n]."""
        return np.where(self.is_answer, self.ids, IGNORE_INDEX)


class ChatEncoder:
    """A chat template with a tokenizer.

    The template alone writes special tokens, none is added. A `PretrainedTokenizer` recognises
    them in the text, as in `transformers`; with other tokenizers only the template's own text has
    special tokens, so that messages cannot contain any.

    Args:
        template: of conversations.
        tokenizer: of the network.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        self._placeholders: dict[str, str] = {}
        self._placeholder_ids: dict[str, int] = {}
        if isinstance(tokenizer, PretrainedTokenizer):
            self._special = {f"{r}_token": tokenizer.roles.get(r, "") for r in ROLES}
            return
        self._special = dict.fromkeys((f"{role}_token" for role in ROLES), "")
        for number in tokenizer.special_ids:
            text = tokenizer.backend.id_to_token(number) or ""
            role = f"{text.strip('<>')}_token"
            if role in self._special or text in template.source:
                placeholder = chr(_FIRST_PLACEHOLDER + len(self._placeholders))
                self._placeholders[text] = placeholder
                self._placeholder_ids[placeholder] = number
                self._special[role] = placeholder

    @classmethod
    def of_tokenizer(cls, tokenizer: Tokenizer) -> ChatEncoder:
        """Return a tokenizer with its own chat template.

        Raises:
            ValueError: when it has none.
        """
        if tokenizer.chat_template is None:
            raise ValueError(
                "chat_template: got None, expected a model that was trained on conversations or a "
                "checkpoint with a chat template; use plain prompts"
            )
        return cls(ChatTemplate(tokenizer.chat_template), tokenizer)

    def encode(self, messages: Sequence[Message], *, loss_on: LossOn = "all") -> EncodedChat:
        """Return the ids of a conversation, and which of them belong to answers.

        Args:
            messages: the turns.
            loss_on: "all" answers, or the "last" one only.

        Raises:
            ValueError: when the template has no generation marks or the conversation no answer, or
                when the tokens of the text before or up to the end of an answer are not the first
                ones of the conversation.
        """
        if not self.template.has_marks:
            raise ValueError(
                "template: got one without {% generation %} marks, expected marks around what the "
                "assistant writes, to compute the loss on answers only; set template to 'chatml', "
                "or to a copy of the template with marks"
            )
        text, spans = self._render(messages)
        if not spans:
            raise ValueError(
                "messages: got no turn of the role assistant, expected one or more; add answers"
            )
        ids = self._encode([text])[0]
        borders = [border for span in spans for border in span]
        counts = [self._prefix_length(ids, text[:border]) for border in borders]
        if messages[-1]["role"] == "assistant":
            prompt, _ = self._render(messages[:-1], add_generation_prompt=True)
            self._prefix_length(ids, prompt)
        answers = list(zip(counts[::2], counts[1::2], strict=True))
        is_answer = np.zeros(len(ids), bool)
        for start, stop in answers[-1:] if loss_on == "last" else answers:
            is_answer[start:stop] = True
        return EncodedChat(ids, is_answer)

    def prompt(self, messages: Sequence[Message]) -> np.ndarray:
        """Return the ids of a conversation up to where the next answer begins, int64 [n].

        Raises:
            ValueError: when there are none.
        """
        ids = self._encode([self._render(messages, add_generation_prompt=True)[0]])[0]
        if not len(ids):
            raise ValueError(
                "messages: got a prompt without tokens, expected one or more; write a text, or "
                "choose a template that begins with a token"
            )
        return ids

    def end_ids(self) -> list[int]:
        """Return the ids of tokens that end an answer: the template's, and the tokenizer's."""
        found = {self.tokenizer.eos_id} - {None}
        if self.template.has_marks:
            dummy = [{"role": role, "content": "a"} for role in ("user", "assistant")]
            ids, is_answer = self.encode(dummy)
            last = int(ids[is_answer][-1])
            found |= {last} & set(self.tokenizer.special_ids)
        return sorted(number for number in found if number is not None)

    def _render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        return self.template.render(
            messages,
            self._special,
            placeholders=self._placeholders,
            add_generation_prompt=add_generation_prompt,
        )

    def _prefix_length(self, ids: np.ndarray, prefix: str) -> int:
        """Return the number of tokens of a text that begins the conversation."""
        expected = self._encode([prefix])[0]
        if not np.array_equal(ids[: len(expected)], expected):
            end = "".join(c for c in prefix[-20:] if c not in self._placeholder_ids)
            raise ValueError(
                f"template: got a text whose tokens change after {end!r} when it is "
                "continued, expected the prompt's tokens to be the first of the whole "
                "conversation; write a special token or a line end between prompt and answer, "
                "and the same generation prompt in both"
            )
        return len(expected)

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of texts, with the special tokens that the template has written."""
        if not self._placeholder_ids:
            return [ids.numpy() for ids in self.tokenizer.encode_plain(texts)]
        pattern = re.compile("([" + "".join(self._placeholder_ids) + "])")
        return [np.concatenate(self._pieces(pattern.split(text))) for text in texts]

    def _pieces(self, pieces: Sequence[str]) -> list[np.ndarray]:
        found = [np.zeros(0, np.int64)]
        for piece in pieces:
            if piece in self._placeholder_ids:
                found.append(np.array([self._placeholder_ids[piece]]))
            elif piece:
                found.append(self.tokenizer.encode(piece).numpy())
        return found
