"""The idx files of MNIST and of sets in its format: reading, finding and downloading them."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from graphformer.data.io.cache import MissingDataError, download

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
NAMES = [name for pair in FILES.values() for name in pair]

# name -> (address, MD5 of each of NAMES as the authors publish them)
SOURCES = {
    "MNIST": (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        [
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ],
    ),
    "FashionMNIST": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ],
    ),
}


def read_idx(path: Path, *, ndim: int | None = None) -> np.ndarray:
    """Return the array of bytes in an idx file, gzipped or plain.

    Args:
        path: the file, of images [B, height, width] or of labels [B].
        ndim: the number of axes that it must have; by default any.

    Raises:
        ValueError: when the file is damaged, is no idx file of unsigned bytes, or has another
            number of axes.

    Source: "THE IDX FILE FORMAT" on yann.lecun.com/exdb/mnist/.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz" or raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path}: got a damaged gzip file ({error}), expected a whole one; download it "
                "again"
            ) from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path}: got another format, expected an idx file of unsigned bytes")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).astype(int)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(values) != shape.prod():
        raise ValueError(
            f"{path}: got {len(values)} bytes, expected {shape.prod()} for shape "
            f"{tuple(shape.tolist())}; download it again"
        )
    if ndim not in (None, len(shape)):
        raise ValueError(
            f"{path}: got an array of shape {tuple(shape.tolist())}, expected {ndim} axes, "
            "[images, height, width] or [labels]"
        )
    return values.reshape(shape)


def find_idx_file(folder: Path, name: str) -> Path | None:
    """Return one of NAMES in a folder, also unpacked or with a dot before "idx", or None."""
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    candidates = (folder / file for file in (name, plain, f"{dotted}.gz", dotted))
    return next((path for path in candidates if path.is_file()), None)


def find_idx_folder(root: Path, name: str) -> Path:
    """Return the folder with the four files, or the one to download them to.

    Searched are `root`, `root`/raw, `root`/<name>/raw and `root`/<name in snake case>/<name>/raw;
    the last one is returned if none has all four files.
    """
    snake_case = {"FashionMNIST": "fashion_mnist"}.get(name, name.lower())
    target = root / snake_case / name / "raw"
    for folder in (root, root / "raw", root / name / "raw", target):
        if all(find_idx_file(folder, file) for file in NAMES):
            return folder
    return target


def download_idx(folder: Path, name: str, *, base_url: str | None) -> None:
    """Download those of the four files that are missing in `folder`.

    Args:
        folder: the target.
        name: of the data set, a key of SOURCES.
        base_url: address of the folder of the files; by default that of SOURCES.

    Raises:
        MissingDataError: when a file is missing and cannot be downloaded, or has another checksum.
    """
    for i, file in enumerate(NAMES):
        if find_idx_file(folder, file):
            continue
        url, checksums = SOURCES.get(name, (None, [None] * len(NAMES)))
        url = base_url or url
        if url is None:
            raise MissingDataError(
                f"{folder / file}: no such file, and no address is known for {name!r}; put the "
                f"file there, or pass base_url (known data sets: {', '.join(SOURCES)})"
            )
        download(f"{url.rstrip('/')}/{file}", folder / file, md5=checksums[i])


def read_idx_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 [B, height, width], and labels, uint8 [B], of a split.

    Args:
        folder: with the four files.
        split: "train" or "test".

    Raises:
        MissingDataError: when a file is missing.
        ValueError: when a file is damaged or has another shape.
    """
    arrays = []
    for name, ndim in zip(FILES[split], (3, 1), strict=True):
        path = find_idx_file(folder, name)
        if path is None:
            raise MissingDataError(f"{folder / name}: no such file; put it there")
        arrays.append(read_idx(path, ndim=ndim))
    return arrays[0], arrays[1]
