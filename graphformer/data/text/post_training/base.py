"""`ChatData`, the base of data that a chat template writes; the tokenizer keeps the template."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, TypeVar

from graphformer.data.text.base import TokenizedFiles
from graphformer.data.text.chat import Message
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.post_training.chat_template import SHIPPED, ChatTemplate

_Sample = TypeVar("_Sample")


class ChatDataOptions(TypedDict, total=False):
    """Keyword arguments of `ChatData`, which describes them, but for the budget of a batch."""

    template: str
    vocabulary: str
    vocabulary_size: int
    val_fraction: float
    test_fraction: float
    root: str | None
    seed: int


class ChatData(TokenizedFiles[_Sample]):
    """`TokenizedFiles` whose samples are conversations that a chat template writes.

    A subclass defines `read`, `samples` and `conversations`.

    Args:
        path: .jsonl, .tsv or .csv, perhaps .gz.
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        template: "chatml", "turns", "plain", a Jinja template with generation marks or a file with
            one; "auto": that of the folder `vocabulary`, else "turns".
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, the folder of a
            checkpoint, or "bpe" or "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        val_fraction, test_fraction: of `path` for the splits without a file.
        root: the data root.
        seed: of the random split and of the order.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None,
        test_path: str | None,
        *,
        max_tokens: int,
        max_edges: int | None = None,
        template: str = "auto",
        vocabulary: str = "bytes",
        vocabulary_size: int = 8192,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            {"train": path, "val": val_path, "test": test_path or val_path},
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            fractions=(val_fraction, test_fraction),
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
