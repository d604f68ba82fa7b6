"""The idx files of MNIST and its kin: reading them, and fetching the known sets."""

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

# name -> (address, MD5 of each of NAMES as their authors publish it)
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
    """Return the array of bytes in a gzipped idx file: [images, height, width] or [labels].

    Args:
        path: the file.
        ndim: how many axes it must have; any number by default.

    Raises:
        ValueError: the file is damaged, is not an idx file of unsigned bytes, or has other axes.

    The format is described at http://yann.lecun.com/exdb/mnist/.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}): fetch it again.") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path} is not an idx file of unsigned bytes: put the right file there.")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).astype(int)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(values) != shape.prod():
        raise ValueError(
            f"{path} announces {shape.prod()} bytes in shape {tuple(shape)} but has "
            f"{len(values)}: fetch it again."
        )
    if ndim not in (None, len(shape)):
        raise ValueError(
            f"{path} holds an array of shape {tuple(shape.tolist())}: expected {ndim} axes, "
            "[images, height, width] or [labels]."
        )
    return values.reshape(shape)


def find_idx_folder(root: Path, name: str) -> Path:
    """Return the folder at or under `root` that has the four files, or the one to put them in.

    It is `root` itself, `root`/raw, `root`/<name>/raw or `root`/<name in snake case>/<name>/raw.
    """
    snake = {"FashionMNIST": "fashion_mnist"}.get(name, name.lower())
    home = root / snake / name / "raw"
    folders = [root, root / "raw", root / name / "raw", home]
    complete = (f for f in folders if all((f / file).is_file() for file in NAMES))
    return next(complete, home)


def download_idx(folder: Path, name: str, *, base_url: str | None) -> None:
    """Download those of the four files that `folder` lacks.

    Raises:
        MissingDataError: a file is not there and cannot be fetched, or has a wrong checksum.
    """
    for i, file in enumerate(NAMES):
        if (folder / file).is_file():
            continue
        url, sums = SOURCES.get(name, (None, [None] * len(NAMES)))
        url = base_url or url
        if url is None:
            raise MissingDataError(
                f"{folder / file} is missing and no address is known for {name!r}: put the file "
                f"there, or pass base_url (known sets: {', '.join(SOURCES)})."
            )
        download(f"{url.rstrip('/')}/{file}", folder / file, md5=sums[i])
