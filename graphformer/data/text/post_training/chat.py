"""`ChatFile`: conversations for instruction tuning, with labels on the assistant's tokens only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import Unpack

from graphformer.data.io.tabular import find_records
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath
from graphformer.data.text.chat import Message
from graphformer.data.text.post_training.base import ChatData, ChatDataOptions
from graphformer.data.text.post_training.chat_encoder import LossOn
from graphformer.data.text.post_training.conversations import Conversation, read_conversations
from graphformer.options import checked_options


class ChatFile(ChatData[Conversation]):
    """Conversations of JSON lines or a table, in batches within a budget of tokens.

    A batch has x [N], pos [N], lengths, and y [N], the next token where an answer contains it, else
    -100. Every conversation is a sample of its own.

    Args:
        path: .jsonl, .tsv or .csv, perhaps .gz; see `read_conversations` for the forms.
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        prompt, completion: names of fields, in files with these.
        loss_on: "all" answers of a conversation, or the "last" one.
        max_length: maximum number of tokens that the network reads; further ones are cut off.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        options: of `ChatData`.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a record is malformed, when the template does not fit, or when a cut leaves
            no answer; the message names the line.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        prompt: str = "prompt",
        completion: str = "completion",
        loss_on: LossOn = "all",
        max_length: int = 1024,
        max_tokens: int = 4096,
        max_edges: int | None = None,
        **options: Unpack[ChatDataOptions],
    ) -> None:
        super().__init__(
            path, val_path, test_path, max_tokens=max_tokens, max_edges=max_edges, **options
        )
        self.save_hyperparameters(logger=False)
        self.prompt, self.completion = prompt, completion
        self.loss_on, self.max_length = loss_on, max_length

    def read(self, path: FilePath) -> list[Conversation]:
        """Return the conversations of a file."""
        file = find_records(path, self.root)
        return list(read_conversations(file, prompt=self.prompt, completion=self.completion))

    def conversations(self, split: str) -> list[Sequence[Message]]:
        """Return the conversations of a split."""
        return [conversation.messages for conversation in self.splits[split]]

    def samples(self, split: str) -> Ragged:
        """Return the token ids and labels of a split's conversations."""
        encoder = self.chat_encoder()
        inputs: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for messages, place in self.splits[split]:
            try:
                chat = encoder.encode(messages, loss_on=self.loss_on)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            stop = self.max_length + 1
            if not chat.is_answer[1:stop].any():
                first = int(chat.is_answer.argmax())
                raise ValueError(
                    f"max_length: got {self.max_length}, but the answer of {place} begins at token "
                    f"{first + 1}, expected an answer in the first {stop} tokens; raise "
                    "max_length, or remove the line"
                )
            inputs.append(chat.ids[: stop - 1][: len(chat.ids) - 1])
            labels.append(chat.labels[1:stop])
        return Ragged(inputs, labels)
