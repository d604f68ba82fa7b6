"""The standard library as text."""

from __future__ import annotations

from graphformer.data import StandardLibrary


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
