"""Small data sets on disk: idx files, and a folder of images with a folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.images import gzipped_idx, write_image

from graphformer.data.vision.idx import NAMES

SIZES = [(8, 12), (4, 4), (9, 14), (8, 12), (12, 8), (7, 5), (8, 12)]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A set of 6 x 10 images: 53 to train and validate on, 17 to test on."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "toy"
    folder.mkdir()
    for names, count in zip((NAMES[:2], NAMES[2:]), (53, 17), strict=True):
        images = rng.integers(0, 256, (count, 6, 10), dtype=np.uint8)
        (folder / names[0]).write_bytes(gzipped_idx(images))
        (folder / names[1]).write_bytes(gzipped_idx(np.arange(count, dtype=np.uint8) % 7))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 7 images each, of mixed sizes, some of them grey."""
    for label, name in enumerate(("cats", "dogs")):
        for i, size in enumerate(SIZES):
            mode = "L" if i == 3 else "RGB"
            write_image(tmp_path / "pets" / name / f"{i}.png", size, 10 * label + i, mode)
    return tmp_path / "pets"
