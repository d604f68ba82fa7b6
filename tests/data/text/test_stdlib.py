"""The standard library as text."""

from __future__ import annotations

import pytest

from graphformer.data import MissingDataError, StandardLibrary


def test_standard_library_holds_out_whole_files() -> None:
    data = StandardLibrary(31, 5, max_characters=200_000)
    data.setup()
    files = data.files
    assert not set(files["train"]) & set(files["val"])
    assert not set(files["test"]) & set(files["train"] + files["val"])
    sizes = {split: sum(f.stat().st_size for f in files[split]) for split in files}
    assert 150_000 < sum(sizes.values()) <= 200_000
    assert 0.65 < sizes["train"] / sum(sizes.values()) < 0.85
    assert 0.05 < sizes["test"] / sum(sizes.values()) < 0.2
    again = StandardLibrary(31, 5, max_characters=200_000)
    again.setup()
    assert again.files == files
    assert data.decode(data.encode("def f(x):\n")) == "def f(x):\n"


def test_a_text_of_few_modules_is_refused() -> None:
    with pytest.raises(MissingDataError, match="max_characters: got 1000, within which"):
        StandardLibrary(max_characters=1000).setup()


def test_the_text_is_one_document_in_blocks() -> None:
    data = StandardLibrary(31, 5, max_characters=200_000)
    data.setup()
    stream = data.stream("val")
    assert stream.starts is None
    assert stream.num_bytes == stream.num_characters == len(stream.tokens)
    text = "\n".join(data._texts[file] for file in data.files["val"])
    assert data.decode(stream.tokens.tolist()) == text
    batch = next(iter(data.train_dataloader()))
    assert batch.lengths == (31,) * 5
