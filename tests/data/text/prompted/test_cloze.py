"""Batches of texts in templates: nodes and tokens of the words, words of the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from graphformer.data import ClozeText


def test_batches_have_the_nodes_and_tokens_of_the_words(tmp_path: Path) -> None:
    records = [{"text": t, "label": y} for t, y in [("ab", "n"), ("c", "p"), ("def", "p")]]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    options: dict[str, Any] = {
        "template": "{text}={mask}",
        "causal": True,
        "vocabulary": "bytes",
        "max_tokens": 64,
    }
    data = ClozeText(str(file), str(file), str(file), words={"n": "-", "p": "+"}, **options)
    data.setup()
    (batch,) = list(data.val_dataloader())
    order = [bytes(row.tolist()) for row in batch.x.split(list(batch.lengths))]
    assert sorted(order) == [b"ab=", b"c=", b"def="]
    assert batch.x[batch.answer_nodes].tolist() == [ord("=")] * 3
    assert torch.equal(batch.answer_nodes, torch.tensor(batch.lengths).cumsum(0) - 1)
    assert batch.answer_ids.tolist() == [[ord("-"), ord("+")]] * 3
    assert batch.y.tolist() == [int(text != b"ab=") for text in order]
    packed = data.pack(["c", "ab"])
    assert packed.answer_nodes.tolist() == [1, 4]
    assert "y" not in packed
    other = ClozeText(str(file), str(file), str(file), words={"n": "-", "q": "+"}, **options)
    with pytest.raises(ValueError, match="got the classes n, q, expected n, p; give each"):
        other.setup()
