"""Soft labels in JSON lines: probabilities by class, beside classes; wrong numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphformer.data import LabelledText


def write(path: Path, labels: list[object]) -> str:
    records = [{"text": "x" * (i + 1), "label": label} for i, label in enumerate(labels)]
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def test_probabilities_by_class(tmp_path: Path) -> None:
    soft = write(tmp_path / "soft.jsonl", [{"b": 0.75, "a": 0.25}, "a", {"a": 1.0, "c": 0}])
    hard = write(tmp_path / "hard.jsonl", ["a", "b"])
    data = LabelledText(soft, hard, hard, vocabulary="bytes", max_tokens=64)
    data.setup()
    assert data.labels == ["a", "b", "c"]
    (batch,) = list(data.batches("train"))
    order = torch.tensor(batch.lengths) - 1
    table = torch.tensor([[0.25, 0.75, 0], [1, 0, 0], [1, 0, 0]])
    assert torch.equal(batch.class_probabilities, table[order])
    assert torch.equal(batch.y, table.argmax(1)[order])
    (batch,) = list(data.batches("val"))
    assert "class_probabilities" not in batch


@pytest.mark.parametrize("label", [{}, {"a": 0.5}, {"a": -0.5, "b": 1.5}, {"a": "x", "b": 1}])
def test_other_numbers_are_refused(tmp_path: Path, label: object) -> None:
    data = LabelledText(write(tmp_path / "a.jsonl", ["a", label]), vocabulary="bytes")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: 'label' is .*add up to 1"):
        data.setup()
