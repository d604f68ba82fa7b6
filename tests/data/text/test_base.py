"""Bases of text data: tokenizers in checkpoints, samples of files, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath, TokenizedFiles
from graphformer.data.text.tokenizer import Bytes


class Lines(TokenizedFiles[str]):
    """The lines of files, read as bytes."""

    def __init__(self, paths: dict[str, FilePath | None], **options: Any) -> None:
        defaults: dict[str, Any] = {
            "vocabulary": "bytes",
            "vocabulary_size": 263,
            "fractions": (0.2, 0.2),
            "max_tokens": 17,
            "max_edges": None,
            "root": None,
            "seed": 0,
        }
        super().__init__(paths, **{**defaults, **options})
        self.reads = 0

    def read(self, path: FilePath) -> list[str]:
        self.reads += 1
        return Path(path).read_text().split("\n")

    def samples(self, split: str) -> Ragged:
        rows = [ids.numpy() for ids in self.need_tokenizer().encode_batch(self.splits[split])]
        self.check_tokens(split, rows, self.splits[split])
        return Ragged(rows, edges=[np.zeros((2, 1), np.int64)] * len(rows))

    def training_texts(self) -> list[str]:
        return self.splits["train"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("\n".join("ab" * (i % 5 + 1) for i in range(23)))
    return tmp_path / "a.txt"


def test_files_are_read_once_and_split(path: Path) -> None:
    data = Lines({"train": path, "val": None, "test": path})
    data.setup()
    data.setup("test")
    assert data.reads == 2
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [18, 5, 23]


def test_batches_fit_the_budget_and_training_is_shuffled(path: Path) -> None:
    data = Lines({"train": path, "val": path, "test": path}, max_edges=2, seed=3)
    data.setup()
    batches = {split: list(data.batches(split)) for split in ("train", "val")}
    for split in batches.values():
        assert sum(len(batch.lengths) for batch in split) == 23
        assert all(len(batch.x) <= 17 and len(batch.lengths) <= 2 for batch in split)
    assert [b.lengths for b in batches["train"]] != [b.lengths for b in batches["val"]]
    Lines.counts_all_pairs = True
    try:
        with pytest.raises(ValueError, match=r"max_edges: got 2, but sample \d+ has 100 edges"):
            data.batches("train")
    finally:
        Lines.counts_all_pairs = False


def test_a_text_without_tokens_is_named(path: Path) -> None:
    path.write_text("ab\n\ncd")
    data = Lines({"train": path, "val": path, "test": path})
    data.setup()
    with pytest.raises(ValueError, match=r"a.txt: the text '' of the val split has no tokens"):
        data.val_dataloader()


def test_a_checkpoints_tokenizer_replaces_the_trained_one(path: Path) -> None:
    data = Lines({"train": path})
    assert data.state_dict() == {}
    with pytest.raises(RuntimeError, match=r"Lines has no tokenizer yet; call setup\(\) first"):
        _ = data.vocab_size
    data.load_state_dict({"tokenizer": Bytes().state()})
    data.setup()
    assert data.vocab_size == 256
    assert data.decode(data.encode("ab")) == "ab"
    other = Lines({"train": path})
    other.setup()
    assert other.vocab_size == 256 + 6
    other.load_state_dict({})
    assert other.vocab_size == 256 + 6
    other.load_state_dict(data.state_dict())
    assert other.vocab_size == 256
    assert torch.equal(other.encode("b"), torch.tensor([98]))
