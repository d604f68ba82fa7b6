"""Images in files: read when they are asked for, and folders with one folder a class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.cache import MissingDataError, data_root
from graphformer.data.splits import split_samples
from graphformer.data.vision.base import ImagesAndLabels, PatchImages

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageFiles(Sequence[Tensor]):
    """Images of files, [C, height, width] of bytes each, read when they are asked for.

    Args:
        files: their paths.
        size: height and width that they are scaled to; None keeps each as it is, but for what its
            sides have beyond `multiple`, which is cut off evenly.
        channels: 3 for colour, 1 for grey.
        multiple: what the sides must be a multiple of, 1 or more.

    Raises ValueError for other channels, and for a size that is no multiple.
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
        if size is not None and (min(size) < 1 or size[0] % multiple or size[1] % multiple):
            raise ValueError(
                f"size is {size[0]} x {size[1]}, which patch_size {multiple} does not divide: "
                "choose sizes that fit."
            )
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

    Of 16 bits the upper 8 stay; what is transparent gets the colour that is stored beneath.

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
            converted = _in_bytes(image).convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} is no image that can be read ({reason}): mend or remove it, or set "
            "skip_corrupt."
        ) from None
    if size is not None:
        converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(converted, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _in_bytes(image: Any) -> Any:
    """An image of Pillow's with 8 bits a channel, for its own conversion cuts all above 255 off."""
    from PIL import Image

    of_16_bits = image.mode == "I" and image.format in ("PNG", "PPM")  # as older versions read it
    if image.mode.startswith("I;16") or of_16_bits:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, in no known range: save 8 or 16 bits")
    return image.convert("RGBA") if image.mode == "P" else image


class ImageFolder(PatchImages):
    """Images in folders, one a class, of any format that Pillow reads, in their own sizes.

    The classes are the folders in `path`, sorted; or where there is `path`/train, those in it, and
    `path`/val and `path`/test hold the same for these splits.

    Args:
        path: the folder, as it stands or under the data root.
        patch_size, batch_size, augment, label_fraction, num_workers, seed: of `PatchImages`.
        size: height and width that images are scaled to; None keeps each as it is, but for what
            its sides have beyond a multiple of `patch_size`, so that a batch has several sizes.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: leave files out that cannot be read, and warn of how many; this reads all of
            them at the start.
        val_fraction, test_fraction: of the division, by chance, where the splits have no folders.
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
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.size, self.channels = path, root, size, channels
        self.skip_corrupt, self.fractions = skip_corrupt, (val_fraction, test_fraction)
        self.classes: list[str] = []

    def read(self) -> dict[str, ImagesAndLabels]:
        """List the files of each split, whose images are read when they are asked for."""
        folder = find_folder(self.path, self.root)
        places = {"train": folder}
        if (folder / "train").is_dir():
            places = {p: folder / p for p in ("train", "val", "test") if (folder / p).is_dir()}
        self.classes = class_names(places["train"])
        splits = {
            split: self._readable(*class_files(place, self.classes))
            for split, place in places.items()
        }
        if len(set(splits["train"][1])) < len(self.classes):
            label = min(set(range(len(self.classes))) - set(splits["train"][1]))
            raise ValueError(
                f"{places['train'] / self.classes[label]} holds no image that can be read: mend "
                "some, or remove the folder of that class."
            )
        pairs = {split: list(zip(*found, strict=True)) for split, found in splits.items()}
        return {
            split: self._images([file for file, _ in chosen], [int(label) for _, label in chosen])
            for split, chosen in split_samples(pairs, self.fractions, self.seed).items()
        }

    def _images(self, files: list[Path], labels: list[int]) -> ImagesAndLabels:
        images = ImageFiles(files, size=self.size, channels=self.channels, multiple=self.patch_size)
        return images, torch.tensor(labels, dtype=torch.int64)

    def _readable(self, files: list[Path], labels: list[int]) -> tuple[list[Path], list[int]]:
        if not self.skip_corrupt:
            return files, labels
        good = readable_files(files, self.channels)
        return [files[i] for i in good], [labels[i] for i in good]


def readable_files(files: Sequence[Path], channels: int) -> list[int]:
    """The numbers of the image files that can be read, with a warning of how many cannot."""
    good, first = [], ""
    for i, file in enumerate(files):
        try:
            read_image(file, channels)
        except ValueError:
            first = first or str(file)
        else:
            good.append(i)
    if first:
        warnings.warn(
            f"skipped {len(files) - len(good)} of {len(files)} files that are no images, first "
            f"{first}",
            stacklevel=3,
        )
    return good


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
    """The image files of every class that has a folder, and their labels [B].

    Raises:
        ValueError: naming a folder without images, or that is none of the classes.
    """
    files: list[Path] = []
    labels: list[int] = []
    for name in class_names(folder):
        if name not in classes:
            raise ValueError(
                f"{folder / name} is no class to train on: put a folder of that name with images "
                "there too, or remove it."
            )
        label = classes.index(name)
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)
        if not found:
            raise ValueError(
                f"{folder / name} holds no images: put some there, or remove the folder of that "
                "class."
            )
        files += found
        labels += [label] * len(found)
    return files, labels
