"""Conversations from the forms of four data sets, and malformed lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphformer.data.text.post_training.conversations import read_conversations


def read(folder: Path, *records: Any, name: str = "a.jsonl", **fields: str) -> list[list[str]]:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [
        [f"{m['role']}: {m['content']}" for m in conversation.messages]
        for conversation in read_conversations(path, **fields)
    ]


EXPECTED = [["user: a", "assistant: b"]]


def test_forms(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert read(tmp_path, {"messages": turns}) == EXPECTED
    assert read(tmp_path, {"data": ["a", "b"], "id": "1"}) == EXPECTED
    assert read(tmp_path, {"prompt": "a", "completion": "b"}) == EXPECTED
    assert read(tmp_path, {"prompt": turns[:1], "completion": turns[1:]}) == EXPECTED
    assert read(tmp_path, {"q": "a", "r": "b"}, prompt="q", completion="r") == EXPECTED
    (tmp_path / "a.tsv").write_text("prompt\tcompletion\na\tb\n")
    assert len(list(read_conversations(tmp_path / "a.tsv"))) == 1


def test_trees_of_open_assistant(tmp_path: Path) -> None:
    def node(role: str, text: str, *replies: Any, **more: Any) -> dict[str, Any]:
        return {"role": role, "text": text, "replies": list(replies), **more}

    tree = node(
        "prompter", "a",
        node(
            "assistant", "b", node("prompter", "c", node("assistant", "d")), node("prompter", "x")
        ),
        node("assistant", "e", node("prompter", "f")),
        node("assistant", "g", deleted=True),
    )  # fmt: skip
    assert read(tmp_path, {"message_tree_id": "1", "prompt": tree}) == [
        ["user: a", "assistant: b", "user: c", "assistant: d"],
        ["user: a", "assistant: e"],
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": ["a"]},
        {"data": ["a", 3]},
        {"prompt": "a"},
        {"prompt": [{"role": "user", "content": "a"}]},
        {"text": "a"},
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, record: Any) -> None:
    with pytest.raises(ValueError, match="a.jsonl, line 2: "):
        read(tmp_path, {"prompt": "a", "completion": "b"}, record)
