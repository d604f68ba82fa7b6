"""Token streams in memory and in cached files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import TextFile
from graphformer.data.text.token_cache import token_dtype

TEXT = "Ünder the moon.\n\nA river,\na bridge.\n\n\nNight — 夜.\n" * 5


def make_text(folder: Path, **options: object) -> TextFile:
    (folder / "text.txt").write_bytes(TEXT.encode())
    data = TextFile(str(folder / "text.txt"), 7, 3, val_fraction=0.3, **options)
    data.setup()
    return data


@pytest.mark.parametrize("documents", [None, "file", "line", "paragraph"])
@pytest.mark.parametrize("vocabulary", ["characters", "bytes", "bpe", "wordpiece"])
def test_a_mapped_token_file_equals_memory(
    tmp_path: Path, vocabulary: str, documents: str | None
) -> None:
    options = {"vocabulary": vocabulary, "documents": documents, "vocabulary_size": 300}
    memory, mapped = (make_text(tmp_path, stream=s, **options) for s in (False, True))
    for split in ("train", "val"):
        first, second = memory.stream(split), mapped.stream(split)
        again = make_text(tmp_path, stream=True, **options).stream(split)
        assert isinstance(second.tokens.base, np.memmap)
        assert second.tokens.dtype == np.uint16
        for other in (second, again):
            assert np.array_equal(first.tokens, other.tokens)
            assert (first.starts is None) == (other.starts is None) == (documents is None)
            if documents is not None:
                assert np.array_equal(first.starts, other.starts)
            assert (first.num_bytes, first.num_characters) == (
                other.num_bytes,
                other.num_characters,
            )
    batches = [list(data.train_dataloader()) for data in (memory, mapped)]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.x, other.x)


def test_a_token_file_is_made_once_and_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_text(tmp_path, stream=True)

    def broken(texts: list[str]) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(data.tokenizer, "encode_batch", broken)
        with pytest.raises(OSError, match="disk full"):
            data.stream("train")
    folder = tmp_path / "cache" / "graphformer" / "tokens"
    assert list(folder.iterdir()) == []
    assert data.stream("train").tokens.size > 0
    (made,) = folder.iterdir()
    times = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    same = make_text(tmp_path, stream=True)
    monkeypatch.setattr(same.tokenizer, "encode_batch", broken)
    assert np.array_equal(same.stream("train").tokens, data.stream("train").tokens)
    assert times == {file.name: file.stat().st_mtime_ns for file in made.iterdir()}


def test_large_vocabularies_need_wider_tokens() -> None:
    assert token_dtype(1 << 16) == np.uint16
    assert token_dtype((1 << 16) + 1) == np.uint32


def test_documents_end_with_their_token(tmp_path: Path) -> None:
    data = make_text(tmp_path, special_tokens=True, documents="paragraph")
    stream, tokenizer = data.stream("val"), data.need_tokenizer()
    ends = np.append(stream.starts[1:], len(stream.tokens)) - 1
    assert set(stream.tokens[ends].tolist()) == {tokenizer.eos_id}
    texts = [tokenizer.decode(t.tolist()) for t in np.split(stream.tokens, stream.starts[1:])]
    assert texts[-2:] == ["A river,\na bridge.", "Night — 夜."]
