"""Idx files: reading, finding and downloading them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.images import gzipped_idx

from graphformer.data import IdxImages, MissingDataError
from graphformer.data.vision.idx import (
    FILES,
    NAMES,
    SOURCES,
    download_idx,
    find_idx_folder,
    read_idx,
    read_idx_split,
)


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw", "mnist/MNIST/raw"])
def test_files_are_found_in_the_usual_places(place: str, toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "root" / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    toy.rename(folder)
    assert find_idx_folder(tmp_path / "root", "MNIST") == folder


def test_missing_files_are_downloaded_once_and_checked(
    toy: Path, tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    for name in NAMES:
        (served / name).write_bytes((toy / name).read_bytes())
    sums = [hashlib.md5((toy / name).read_bytes()).hexdigest() for name in NAMES]
    monkeypatch.setitem(SOURCES, "MNIST", (url, sums))
    root = tmp_path / "root"
    IdxImages("MNIST", 2, root=str(root)).prepare_data()
    folder = root / "mnist" / "MNIST" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    monkeypatch.setitem(SOURCES, "MNIST", ("http://127.0.0.1:1", sums))
    IdxImages("MNIST", 2, root=str(root)).prepare_data()

    (served / NAMES[3]).write_bytes(b"corrupted")
    (folder / NAMES[3]).unlink()
    with pytest.raises(MissingDataError, match="MD5"):
        IdxImages("MNIST", 2, root=str(root), base_url=url).prepare_data()
    assert not (folder / NAMES[3]).exists()


def test_missing_set_without_network_or_address_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"train-images-idx3-ubyte\.gz.*put the file there"):
        IdxImages(root=str(tmp_path), base_url="http://127.0.0.1:1").prepare_data()
    with pytest.raises(MissingDataError, match="'KMNIST'.*base_url"):
        IdxImages("KMNIST", root=str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "damaged gzip"),
        (gzipped_idx(np.zeros((3, 5), np.uint8))[:-9], "damaged gzip"),
        (gzip.compress(b"abcdefgh", mtime=0), "expected an idx file"),
        (
            gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\x05" + b"abc", mtime=0),
            "got 3 bytes, expected 5",
        ),
    ],
    ids=["no gzip", "cut off", "other content", "too short"],  # gzip writes the time
)
def test_damaged_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "x.gz")


def test_fashion_mnist_is_read(real_data: Callable[[str], Path]) -> None:
    folder = real_data("fashion_mnist/FashionMNIST/raw")
    images = read_idx(folder / NAMES[2])
    labels = read_idx(folder / NAMES[3])
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert find_idx_folder(folder.parents[2], "FashionMNIST") == folder


@pytest.mark.parametrize("form", ["plain", "dotted", "gzipped and dotted"])
def test_files_may_be_unpacked_or_named_with_a_dot(form: str, toy: Path) -> None:
    expected = {name: read_idx(toy / name) for name in NAMES}
    for name in NAMES:
        target = name if "gzipped" in form else name.removesuffix(".gz")
        target = target.replace("-idx", ".idx") if "dotted" in form else target
        raw = (toy / name).read_bytes()
        (toy / name).unlink()
        (toy / target).write_bytes(raw if "gzipped" in form else gzip.decompress(raw))
    assert find_idx_folder(toy, "toy") == toy
    download_idx(toy, "toy", base_url="http://127.0.0.1:1")
    assert find_idx_folder(toy, "toy") == toy
    for split, (images, labels) in FILES.items():
        pixels, classes = read_idx_split(toy, split)
        assert np.array_equal(pixels, expected[images])
        assert np.array_equal(classes, expected[labels])


def test_a_split_without_its_file_is_named(toy: Path) -> None:
    (toy / NAMES[3]).unlink()
    with pytest.raises(MissingDataError, match=r"t10k-labels-idx1-ubyte\.gz: no such file"):
        read_idx_split(toy, "test")
