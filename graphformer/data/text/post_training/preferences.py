"""`PreferenceFile`: pairs of a chosen and a rejected answer, for reward models and DPO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.data.batch import IGNORE_INDEX, Batch
from graphformer.data.io.tabular import find_records, get_field, read_records
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath
from graphformer.data.text.chat import Message
from graphformer.data.text.post_training.base import ChatData, ChatDataOptions
from graphformer.data.text.post_training.chat_encoder import ChatEncoder
from graphformer.data.text.post_training.conversations import as_messages
from graphformer.options import checked_options

_TURN = re.compile(r"\n\n(Human|Assistant):")


class Pair(NamedTuple):
    """Two conversations, the chosen one better by `margin`; with the file and line."""

    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float
    place: str


class PreferenceFile(ChatData[Pair]):
    """Pairs of answers from JSON lines or a table, in batches within a budget of tokens.

    A batch of P pairs has 2 P samples, chosen and rejected in turn: x [N] up to the last token of
    the answer, pos [N], lengths, y [N] (the next token where the last answer contains it, else
    -100), `margin` [P], and `length_difference` [P], the characters of the chosen answer minus
    those of the rejected one.

    Args:
        path: .jsonl, .tsv or .csv, perhaps .gz, with "chosen" and "rejected": texts of whole
            conversations in HH's layout, lists of messages, or answers to the field "prompt".
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        margin: name of a field with a number; None: all margins are 0.
        max_length: maximum number of tokens of a conversation; the beginning of the prompt is cut.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        options: of `ChatData`.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a record is malformed, when the template does not fit, or when an answer
            alone is longer than `max_length`; the message names the line.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        margin: str | None = None,
        max_length: int = 1024,
        max_tokens: int = 4096,
        max_edges: int | None = None,
        **options: Unpack[ChatDataOptions],
    ) -> None:
        super().__init__(
            path, val_path, test_path, max_tokens=max_tokens, max_edges=max_edges, **options
        )
        self.save_hyperparameters(logger=False)
        self.margin, self.max_length = margin, max_length

    def read(self, path: FilePath) -> list[Pair]:
        """Return the pairs of a file."""
        return list(read_pairs(find_records(path, self.root), margin=self.margin))

    def conversations(self, split: str) -> list[Sequence[Message]]:
        """Return the conversations of a split, chosen and rejected in turn."""
        return [
            messages for pair in self.splits[split] for messages in (pair.chosen, pair.rejected)
        ]

    def samples(self, split: str) -> PairSamples:
        """Return the token ids and labels of a split's pairs."""
        encoder, pairs = self.chat_encoder(), self.splits[split]
        rows = [
            self._encode(encoder, messages, pair.place)
            for pair in pairs
            for messages in (pair.chosen, pair.rejected)
        ]
        answers = [(pair.chosen[-1]["content"], pair.rejected[-1]["content"]) for pair in pairs]
        return PairSamples(
            Ragged([ids for ids, _ in rows], [labels for _, labels in rows]),
            np.array([pair.margin for pair in pairs], np.float32),
            np.array([len(chosen) - len(rejected) for chosen, rejected in answers], np.int64),
        )

    def _encode(
        self, encoder: ChatEncoder, messages: Sequence[Message], place: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids up to the end of the last answer, and the label of each."""
        try:
            chat = encoder.encode(messages, loss_on="last")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        stop, count = int(np.flatnonzero(chat.is_answer)[-1]) + 1, int(chat.is_answer.sum())
        if count >= self.max_length:
            raise ValueError(
                f"max_length: got {self.max_length}, but an answer of {place} has {count} tokens, "
                "expected fewer; raise max_length, or remove the line"
            )
        start = max(0, stop - self.max_length)
        labels = np.append(chat.labels[start + 1 : stop], IGNORE_INDEX)
        return chat.ids[start:stop], labels


class PairSamples:
    """Pairs of token sequences, two adjacent rows each; see `PreferenceFile` for a batch.

    Args:
        rows: chosen and rejected sequences in turn, 2 P, with labels.
        margin: of each pair, [P].
        length_difference: of each pair, [P].
    """

    def __init__(self, rows: Ragged, margin: np.ndarray, length_difference: np.ndarray) -> None:
        self.rows, self.margin, self.length_difference = rows, margin, length_difference
        self.lengths = rows.lengths.reshape(-1, 2).sum(1)
        self.num_edges: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Tensor) -> Batch:
        batch = self.rows[torch.stack([2 * index, 2 * index + 1], dim=1).flatten()]
        batch.margin = torch.from_numpy(self.margin[index.numpy()])
        batch.length_difference = torch.from_numpy(self.length_difference[index.numpy()])
        return batch


def read_pairs(path: Path, *, margin: str | None = None) -> Iterator[Pair]:
    """Yield the pairs of a file; see `PreferenceFile` for its forms.

    Args:
        path: of the file.
        margin: name of a field with a number; None: all margins are 0.

    Raises:
        ValueError: when a record is malformed; the message names the line.
    """
    for number, record in read_records(path):
        place = f"{path}, line {number}"
        prompt = record.get("prompt")
        before = [] if prompt is None else as_messages(prompt, "user", place)
        chosen, rejected = (
            (*before, *_answer(get_field(record, name, path, number), bool(before), place))
            for name in ("chosen", "rejected")
        )
        value = 0.0 if margin is None else _number(get_field(record, margin, path, number), place)
        yield Pair(chosen, rejected, value, place)


def _answer(value: Any, has_prompt: bool, place: str) -> list[Message]:
    """Return the messages of an answer, or of a conversation, that ends with the assistant."""
    if isinstance(value, str) and not has_prompt:
        _, *parts = _TURN.split(value)
        roles = ["user" if name == "Human" else "assistant" for name in parts[::2]]
        turns = zip(roles, parts[1::2], strict=True)
        messages: list[Message] = [{"role": r, "content": text.strip()} for r, text in turns]
    else:
        messages = as_messages(value, "assistant", place)
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError(
            f"{place}: got a conversation that does not end with an answer, expected a turn of "
            "the assistant at its end; in a text, turns begin with a blank line and 'Human:' or "
            "'Assistant:'"
        )
    return messages


def _number(value: Any, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{place}: got the margin {value!r}, expected a number") from None
