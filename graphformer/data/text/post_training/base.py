"""`ChatData`, the base of data that a chat template writes; the template is in checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from graphformer.data.text.base import FilePath, TokenizedFiles
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.post_training.chat_template import (
    SHIPPED,
    ChatTemplate,
    Message,
    read_chat_template,
)

_Sample = TypeVar("_Sample")


class ChatData(TokenizedFiles[_Sample]):
    """`TokenizedFiles` whose samples are conversations that a chat template writes.

    A subclass defines `read`, `samples` and `conversations`.

    Args:
        paths, fractions, max_tokens, max_edges, root, seed: of `SampleFiles`.
        vocabulary, vocabulary_size: of `TokenizedFiles`.
        template: the name of a template in `SHIPPED`, a Jinja template, or a file with one; "auto"
            is that of the folder `vocabulary`, else "turns".
    """

    def __init__(
        self,
        paths: dict[str, FilePath | None],
        *,
        template: str,
        vocabulary: str,
        vocabulary_size: int,
        fractions: tuple[float, float],
        max_tokens: int,
        max_edges: int | None,
        root: FilePath | None,
        seed: int,
    ) -> None:
        super().__init__(
            paths,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            fractions=fractions,
            max_tokens=max_tokens,
            max_edges=max_edges,
            root=root,
            seed=seed,
        )
        self.template = template
        self._stored_template: str | None = None

    @abstractmethod
    def conversations(self, split: str) -> list[Sequence[Message]]:
        """Return the conversations of a split, on which a tokenizer is trained."""

    def chat_encoder(self) -> ChatEncoder:
        """Return the template with the tokenizer.

        Raises:
            RuntimeError: when called before `setup`.
            ValueError: when the template is not valid.
        """
        return ChatEncoder(ChatTemplate(self._source()), self.need_tokenizer())

    def training_texts(self) -> list[str]:
        """Return the conversations of the training split as text."""
        template = ChatTemplate(self._source())
        return [template.plain_text(messages) for messages in self.conversations("train")]

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer and the chat template, for a checkpoint."""
        return {**super().state_dict(), "chat_template": self._source()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the tokenizer and the chat template of a checkpoint."""
        super().load_state_dict(state_dict)
        self._stored_template = state_dict.get("chat_template", self._stored_template)

    def _source(self) -> str:
        """Return the template's text."""
        if self._stored_template is not None:
            return self._stored_template
        if self.template == "auto":
            folder = Path(self.vocabulary).expanduser()
            found = read_chat_template(folder) if folder.is_dir() else None
            return found or SHIPPED["turns"]
        path = Path(self.template).expanduser()
        is_file = self.template not in SHIPPED and len(self.template) < 256 and path.is_file()
        return path.read_text(encoding="utf-8") if is_file else self.template
