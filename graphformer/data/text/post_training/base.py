"""`ChatData`, the base of data that a chat template writes; the tokenizer keeps the template."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from graphformer.data.text.base import FilePath, TokenizedFiles
from graphformer.data.text.chat import Message
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.post_training.chat_template import SHIPPED, ChatTemplate

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

    @abstractmethod
    def conversations(self, split: str) -> list[Sequence[Message]]:
        """Return the conversations of a split, on which a tokenizer is trained."""

    def setup(self, stage: str | None = None) -> None:
        """Read and split the samples; make tokenizer and template unless a checkpoint had them."""
        is_new = self.tokenizer is None
        super().setup(stage)
        if is_new:
            self.need_tokenizer().chat_template = self._source()

    def chat_encoder(self) -> ChatEncoder:
        """Return the tokenizer with its chat template.

        Raises:
            RuntimeError: when called before `setup`.
            ValueError: when the template is not valid.
        """
        return ChatEncoder.of_tokenizer(self.need_tokenizer())

    def training_texts(self) -> list[str]:
        """Return the conversations of the training split as text."""
        template = ChatTemplate(self._source())
        return [template.plain_text(messages) for messages in self.conversations("train")]

    def _source(self) -> str:
        """Return the text of the template that the settings name."""
        if self.template == "auto":
            own = None if self.tokenizer is None else self.tokenizer.chat_template
            return own or SHIPPED["turns"]
        path = Path(self.template).expanduser()
        is_file = self.template not in SHIPPED and len(self.template) < 256 and path.is_file()
        text = path.read_text(encoding="utf-8") if is_file else self.template
        return SHIPPED.get(text, text)
