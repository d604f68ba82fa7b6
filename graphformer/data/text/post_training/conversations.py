"""Conversations of JSON lines: messages, prompt and completion, OpenAssistant's, UltraChat's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from graphformer.data.io.tabular import get_text, read_records
from graphformer.data.text.chat import Message

ROLE_NAMES = {"prompter": "user", "human": "user", "gpt": "assistant"}
"""Names of roles in some data sets, and the usual ones."""


class Conversation(NamedTuple):
    """The turns of a conversation, and the file and line that it is from."""

    messages: tuple[Message, ...]
    place: str


def read_conversations(
    path: Path, *, prompt: str = "prompt", completion: str = "completion"
) -> Iterator[Conversation]:
    """Yield the conversations of a file of JSON lines or of a table.

    A record has one of these forms:

    - "messages": a list of objects with "role" and "content";
    - two fields, a prompt and its completion: texts, or lists of messages;
    - OpenAssistant's tree: "prompt" is an object with "text", "role" and "replies"; every path from
      it to a leaf that ends with an answer is a conversation;
    - UltraChat's: "data" is a list of texts of the user and of the assistant in turn.

    Args:
        path: of the file.
        prompt, completion: names of the two fields of the second form.

    Raises:
        ValueError: when a record has none of these forms; the message names the line.
    """
    for number, record in read_records(path):
        place = f"{path}, line {number}"
        for messages in _turns(record, prompt, completion, path, number):
            yield Conversation(tuple(messages), place)


def as_messages(value: Any, role: str, place: str) -> list[Message]:
    """Return a text as one message of a role, or a list of messages as it is.

    Raises:
        ValueError: when it is neither; the message names the place.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{place}: got {value!r}, expected a text or a list of messages")
    return [_message(turn, place) for turn in value]


def _turns(
    record: dict[str, Any], prompt: str, completion: str, path: Path, number: int
) -> Iterator[list[Message]]:
    place = f"{path}, line {number}"
    if "messages" in record:
        yield as_messages(record["messages"], "user", place)
    elif isinstance(record.get("prompt"), dict):
        yield from _paths(record["prompt"], (), place)
    elif isinstance(record.get("data"), list):
        texts = record["data"]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{place}: expected a list of texts in the field 'data'")
        roles = ("user", "assistant")
        yield [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    elif prompt in record and isinstance(record[prompt], list):
        asked = as_messages(record[prompt], "user", place)
        yield [*asked, *as_messages(record.get(completion), "assistant", place)]
    else:
        asked = as_messages(get_text(record, prompt, path, number), "user", place)
        yield [*asked, {"role": "assistant", "content": get_text(record, completion, path, number)}]


def _message(turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise ValueError(f"{place}: got {turn!r}, expected a message with role and content")
    role, content = turn.get("role"), turn.get("content", turn.get("text"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(f"{place}: got {turn!r}, expected a message with role and content")
    return {"role": ROLE_NAMES.get(role, role), "content": content}


def _paths(node: Any, before: Sequence[Message], place: str) -> Iterator[list[Message]]:
    """Yield the paths of a tree of messages to each last answer, without deleted messages."""
    path, found = [*before, _message(node, place)], False
    for reply in node.get("replies") or ():
        for longer in () if reply.get("deleted") else _paths(reply, path, place):
            found = True
            yield longer
    if not found and path[-1]["role"] == "assistant":
        yield path
