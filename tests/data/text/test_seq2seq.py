"""Pairs of texts and of symbols as samples of an encoder-decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphformer.data import SymbolPairs, TextPairs


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_pairs_are_samples_of_an_encoder_decoder(tmp_path: Path) -> None:
    lines = [f"source {'ab' * (i % 5)}\ttarget {i}" for i in range(31)]
    path = write(tmp_path / "a.tsv", "\n".join(lines))
    data = TextPairs(str(path), vocabulary="bytes", max_tokens=150)
    data.setup()
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [25, 3, 3]
    assert len({pair for pairs in data.splits.values() for pair in pairs}) == 31
    bos, eos = data.tokenizer.bos_id, data.tokenizer.eos_id
    seen = []
    for batch in data.train_dataloader():
        assert len(batch.x) + len(batch.source) <= 150
        assert len(batch.lengths) == len(batch.source_lengths)
        sources = batch.source.split(list(batch.source_lengths))
        reads, answers = batch.x.split(list(batch.lengths)), batch.y.split(list(batch.lengths))
        for source, read, answer in zip(sources, reads, answers, strict=True):
            assert read[0] == bos
            assert answer[-1] == eos
            assert torch.equal(read[1:], answer[:-1])
            seen.append((data.decode(source), data.decode(answer)))
    assert sorted(seen) == sorted(data.splits["train"])


def test_pairs_from_json_lines_and_of_limited_length(tmp_path: Path) -> None:
    records = [{"de": "x" * i, "en": "y" * 3} for i in range(1, 20)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))
    data = TextPairs(
        str(path), str(path), str(path), source="de", target="en", vocabulary="bytes", max_length=11
    )
    data.setup()
    lengths = [n for batch in data.train_dataloader() for n in batch.source_lengths]
    assert sorted(lengths) == list(range(1, 12))
    lengths = [n for batch in data.test_dataloader() for n in batch.source_lengths]
    assert sorted(lengths) == [*range(1, 12), *[11] * 8]
    path = write(tmp_path / "a.tsv", "de\ten\nx\ty\n")
    with pytest.raises(ValueError, match="line 2: there is no field '1', only 'de', 'en'"):
        TextPairs(str(path), source="de").setup()
    named = TextPairs(str(path), source="en", target="de", vocabulary="bytes")
    named.setup()
    assert named.splits["train"] == [("y", "x")]


@pytest.mark.parametrize("task", ["reverse", "sort"])
def test_symbol_pairs(task: str) -> None:
    data = SymbolPairs(task, 7, min_length=3, max_length=5, num_samples=97)  # type: ignore[arg-type]
    data.setup()
    rows = {split: {tuple(row) for row in data.splits[split]} for split in data.splits}
    assert not rows["train"] & rows["val"] | rows["test"] & (rows["train"] | rows["val"])
    batch = next(iter(data.val_dataloader()))
    sources = batch.source.split(list(batch.source_lengths))
    for source, answer in zip(sources, batch.y.split(list(batch.lengths)), strict=True):
        wanted = source.flip(0) if task == "reverse" else source.sort().values
        assert answer.tolist() == [*wanted.tolist(), data.eos_id]
    assert data.vocab_size == 9
    with pytest.raises(ValueError, match="min_length and max_length: got 5 and 3"):
        SymbolPairs(min_length=5, max_length=3)
