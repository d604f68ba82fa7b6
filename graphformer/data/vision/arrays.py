"""Images in array files: .npz archives (Keras, MedMNIST) and the folders of CIFAR."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.arrays import load_arrays

Arrays = dict[str, tuple[Tensor, Tensor]]
"""Images [B, C, height, width] and labels [B] of the splits "train", "test" and maybe "val"."""

NPZ_NAMES = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))
"""Names of a split's images and labels: those of Keras, and those of MedMNIST."""
CIFAR_SIDE = 32
CHANNELS = (1, 3, 4)


def read_npz(file: Path) -> Arrays:
    """Return the splits of an .npz archive with x_train, y_train or train_images, train_labels.

    Images are [B, height, width], or have 1, 3 or 4 channels behind or before height and width.
    Labels are [B] or [B, 1].

    Raises:
        ValueError: when the file is no archive of plain arrays, an array is missing, or one has
            another shape or type.
    """
    arrays = load_arrays(file)
    names = next((names for names in NPZ_NAMES if names[0].format("train") in arrays), NPZ_NAMES[0])
    wanted = {split: tuple(n.format(split) for n in names) for split in ("train", "test", "val")}
    missing = {name for split in ("train", "test") for name in wanted[split]} - arrays.keys()
    if missing:
        raise ValueError(
            f"{file}: got the arrays {', '.join(arrays) or 'none'}, expected also "
            f"{', '.join(sorted(missing))}"
        )
    return {
        split: (_channels_first(arrays[images], file), _labels(arrays[labels], file))
        for split, (images, labels) in wanted.items()
        if images in arrays and labels in arrays
    }


def _labels(labels: np.ndarray, file: Path) -> Tensor:
    """Labels [B] or [B, 1] as int64 [B]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{file}: got labels of shape {labels.shape} and type {labels.dtype}, expected the "
            "class of each image, integers [B]"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _channels_first(images: np.ndarray, file: Path) -> Tensor:
    if images.dtype.kind not in "biuf":
        raise ValueError(f"{file}: got images of type {images.dtype}, expected numbers")
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[-1] not in CHANNELS and images.shape[1] in CHANNELS:
        return torch.from_numpy(images).contiguous()
    if images.ndim != 4 or images.shape[-1] not in CHANNELS:
        raise ValueError(
            f"{file}: got images of shape {images.shape}, expected [B, height, width], or with 1, "
            "3 or 4 channels behind or before height and width"
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def read_cifar(folder: Path) -> Arrays:
    """Return the splits of CIFAR-10 or CIFAR-100, in the Python or the binary version.

    Args:
        folder: with data_batch_1 and so on and test_batch (CIFAR-10), or with train and test
            (CIFAR-100, fine labels); each perhaps with the ending .bin.

    Raises:
        ValueError: when the folder has no such files, or one is damaged.

    Source: Krizhevsky, 2009, "Learning multiple layers of features from tiny images".
    """
    for pattern, test in (("data_batch_[0-9]", "test_batch"), ("train", "test")):
        for ending, read in (("", _read_pickled_cifar), (".bin", _read_binary_cifar)):
            files = sorted(f for f in folder.glob(f"{pattern}{ending}") if f.is_file())
            if files and (folder / f"{test}{ending}").is_file():
                parts = [read(file) for file in files]
                train = (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
                return {"train": train, "test": read(folder / f"{test}{ending}")}
    raise ValueError(
        f"{folder}: got no files of CIFAR, expected data_batch_1 ... and test_batch, or train and "
        "test, perhaps with the ending .bin"
    )


def is_cifar(folder: Path) -> bool:
    """Return whether a folder has the files of CIFAR."""
    tests = ("test_batch", "test_batch.bin", "test", "test.bin")
    return any((folder / name).is_file() for name in tests)


class _PlainUnpickler(pickle.Unpickler):
    """Loads numpy arrays and built-in types only: a pickle of another author may run any code."""

    ALLOWED = frozenset(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
        for name in ("_reconstruct", "ndarray", "dtype")
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it uses {module}.{name}")
        return super().find_class(module, name)


def _read_pickled_cifar(file: Path) -> tuple[Tensor, Tensor]:
    try:
        batch = _PlainUnpickler(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        labels = batch[b"labels"] if b"labels" in batch else batch[b"fine_labels"]
        return _cifar_images(np.asarray(batch[b"data"], np.uint8)), torch.tensor(labels).long()
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{file}: got no batch of CIFAR ({error}), expected a pickled dictionary of data and "
            "labels"
        ) from None


def _read_binary_cifar(file: Path) -> tuple[Tensor, Tensor]:
    """Rows of a label byte (CIFAR-100: a coarse and a fine one) and 3,072 pixels."""
    raw = np.fromfile(file, np.uint8)
    num_labels = 1 if "batch" in file.name else 2
    width = num_labels + 3 * CIFAR_SIDE**2
    if len(raw) % width:
        raise ValueError(
            f"{file}: got {len(raw)} bytes, expected a multiple of {width}; download it again"
        )
    rows = raw.reshape(-1, width)
    labels = torch.from_numpy(rows[:, num_labels - 1].astype(np.int64))
    return _cifar_images(rows[:, num_labels:]), labels


def _cifar_images(rows: np.ndarray) -> Tensor:
    images = rows.reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
    return torch.from_numpy(np.ascontiguousarray(images))


def brightest_value(images: Tensor) -> float:
    """Return the largest value that a pixel can have, from the type and the values of images.

    Booleans and floats up to 1 have 1, other numbers up to 255 have 255, larger ones 65,535.
    """
    top = float(images.max()) if images.numel() else 0.0
    if images.dtype == torch.bool or (images.is_floating_point() and top <= 1):
        return 1.0
    return 255.0 if top <= 255 else 65_535.0
