"""Archives of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphformer.data.io.arrays import load_arrays


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3), names=np.array(["a", "b"]))
    arrays = load_arrays(tmp_path / "a.npz")
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["names"].tolist() == ["a", "b"]


def test_other_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "a.npz"
    np.savez(whole, x=np.arange(700))
    damaged, objects = tmp_path / "b.npz", tmp_path / "c.npz"
    damaged.write_bytes(whole.read_bytes()[:900])
    np.savez(objects, x=np.array([{}], object))
    for file in (damaged, objects):
        with pytest.raises(ValueError, match=rf"{file.name}: got no .npz file of plain arrays"):
            load_arrays(file)
