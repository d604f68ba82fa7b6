"""Images in files: read when they are asked for, and folders with one folder a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.files import MissingDataError, data_root
from graphformer.data.images import Labelled, PatchImages
from graphformer.data.loading import divide

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageFiles(Sequence[Tensor]):
    """Images of files, [C, height, width] of bytes each, read when they are asked for.

    Args:
        files: their paths.
        size: height and width that they are scaled to; None keeps each as it is, but for what its
            sides have beyond `multiple`, which is cut off evenly.
        channels: 3 for colour, 1 for grey.
        multiple: what the sides must be a multiple of.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        multiple: int = 1,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}: expected 3 for colour or 1 for grey.")
        self.files, self.size = list(files), None if size is None else (size[0], size[1])
        self.channels, self.multiple = channels, multiple

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: Any) -> Any:
        pixels = read_image(self.files[i], self.channels, self.size)
        height, width = (side // self.multiple * self.multiple for side in pixels.shape[1:])
        if not height or not width:
            raise ValueError(
                f"{self.files[i]} has {pixels.shape[1]} x {pixels.shape[2]} pixels, fewer than a "
                f"patch of {self.multiple}: leave it out, or give size."
            )
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        return torch.from_numpy(pixels[:, top : top + height, left : left + width].copy())


def read_image(file: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return an image file as bytes [C, height, width].

    Raises:
        ValueError: naming the file that cannot be read.
        ModuleNotFoundError: without Pillow.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError("image files need Pillow: pip install pillow") from None
    try:
        with Image.open(file) as image:
            converted = image.convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} is no image that can be read ({reason}): mend or remove it, or set "
            "skip_corrupt."
        ) from None
    if size is not None:
        converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(converted, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


class ImageFolder(PatchImages):
    """Images in folders, one a class, of any format that Pillow reads, in their own sizes.

    The classes are the folders in `path`, sorted; or where there is `path`/train, those in it, and
    `path`/val and `path`/test hold the same for these parts.

    Args:
        path: the folder, as it stands or under the data root.
        patch_size, batch_size, augment, label_fraction, num_workers, seed: of `PatchImages`.
        size: height and width that images are scaled to; None keeps each as it is, but for what
            its sides have beyond a multiple of `patch_size`, so that a batch has several sizes.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: leave files out that cannot be read, and warn of how many; this reads all of
            them at the start.
        val_fraction, test_fraction: of the division, by chance, where the parts have no folders.
        root: the data root.

    Raises:
        MissingDataError: there is no such folder.
        ValueError: naming a class without images, or a file that cannot be read.
    """

    def __init__(
        self,
        path: str,
        patch_size: int = 8,
        batch_size: int = 32,
        *,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        skip_corrupt: bool = False,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        augment: Sequence[str] = (),
        label_fraction: float = 1.0,
        root: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=0,
            augment=augment,
            label_fraction=label_fraction,
            num_workers=num_workers,
            seed=seed,
        )
        path, root = os.fspath(path), None if root is None else os.fspath(root)
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.size, self.channels = path, root, size, channels
        self.skip_corrupt, self.fractions = skip_corrupt, (val_fraction, test_fraction)
        self.classes: list[str] = []

    def read(self) -> dict[str, Labelled]:
        """List the files of each part, whose images are read when they are asked for."""
        folder = find_folder(self.path, self.root)
        has_parts = (folder / "train").is_dir()
        self.classes = class_names(folder / "train" if has_parts else folder)
        places = {"train": folder / "train" if has_parts else folder}
        if has_parts:
            places |= {p: folder / p for p in ("val", "test") if (folder / p).is_dir()}
        parts = {
            part: self._readable(*class_files(place, self.classes))
            for part, place in places.items()
        }
        pairs = {part: list(zip(*found, strict=True)) for part, found in parts.items()}
        return {
            part: self._images([file for file, _ in chosen], [int(label) for _, label in chosen])
            for part, chosen in divide(pairs, self.fractions, self.seed).items()
        }

    def _images(self, files: list[Path], labels: list[int]) -> Labelled:
        images = ImageFiles(files, size=self.size, channels=self.channels, multiple=self.patch_size)
        return images, torch.tensor(labels, dtype=torch.int64)

    def _readable(self, files: list[Path], labels: list[int]) -> tuple[list[Path], list[int]]:
        if not self.skip_corrupt:
            return files, labels
        good, first = [], ""
        for i, file in enumerate(files):
            try:
                read_image(file, self.channels)
            except ValueError:
                first = first or str(file)
            else:
                good.append(i)
        if first:
            warnings.warn(
                f"skipped {len(files) - len(good)} of {len(files)} files that are no images, "
                f"first {first}",
                stacklevel=2,
            )
        return [files[i] for i in good], [labels[i] for i in good]


def find_folder(name: str, root: str | None) -> Path:
    """The folder of that name, as it stands or under the data root.

    Raises:
        MissingDataError: there is none.
    """
    for place in (Path(name).expanduser(), data_root(root) / name):
        if place.is_dir():
            return place
    raise MissingDataError(
        f"There is no folder {name}, neither here nor in {data_root(root)}: put it there, or set "
        "root or the variable GRAPHFORMER_DATA to where it is."
    )


def class_names(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted; ValueError if there is none."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} holds no folders: expected one for each class of images.")
    return names


def class_files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """The image files of every class, and their labels [B].

    Raises:
        ValueError: naming a class without images.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)
        if not found:
            raise ValueError(
                f"{folder / name} holds no images: put some there, or remove the folder of that "
                "class."
            )
        files += found
        labels += [label] * len(found)
    return files, labels
