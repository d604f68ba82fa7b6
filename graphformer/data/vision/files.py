"""Image files: which files of a folder are images, and reading them as arrays of bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.cache import MissingDataError, data_root

NO_PICTURES = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"))
"""Formats that Pillow recognises, but reads only with other programs or not at all."""
SYSTEM_NAMES = frozenset(
    (
        "#recycle",
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "lost+found",
        "system volume information",
        "thumbs.db",
    )
)
"""Files and folders that operating systems and network drives add, in lower case."""
NARROW_RANGE = 2**12
"""A 16-bit picture whose values stay below this one has at most 12 bits of content."""


@dataclass(frozen=True)
class EncodedImage:
    """The content of an image file that is stored in a table.

    Attributes:
        name: in messages and predictions.
        content: of the file, such as a PNG.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


class ImageFiles(Sequence[Tensor]):
    """Images of files, [C, height, width] of bytes each, read when they are accessed.

    Args:
        files: their paths, or their contents.
        size: height and width that images are resized to; with None each keeps its own, cropped
            at the centre to multiples of `multiple`.
        channels: 3 for colour, 1 for grey.
        multiple: divides all heights and widths, the side of a patch.

    Raises:
        ValueError: when channels is neither, or size is no multiple of `multiple`.
    """

    def __init__(
        self,
        files: Sequence[Path | EncodedImage],
        *,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        multiple: int = 1,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels: got {channels}, expected 3 for colour or 1 for grey")
        if size is not None and (min(size) < 1 or size[0] % multiple or size[1] % multiple):
            raise ValueError(
                f"size: got {size[0]} x {size[1]}, expected multiples of patch_size {multiple}"
            )
        self.files, self.size = list(files), None if size is None else (size[0], size[1])
        self.channels, self.multiple = channels, multiple

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: Any) -> Any:
        pixels = read_image(self.files[i], self.channels, self.size)
        return _cropped(pixels, self.multiple, str(self.files[i]))

    def readable(self) -> list[int]:
        """Return the indices of the files that can be read and are not too small; reads them all.

        A warning states the number of the others.
        """
        return readable_files(self, self.files, "images or too small")


def readable_files(images: Sequence[Tensor], files: Sequence[object], nothing: str) -> list[int]:
    """Return the indices of the files that can be read; reads them all.

    A warning states the number of the others.

    Args:
        images: of the files; an access raises ValueError where one cannot be read.
        files: their names.
        nothing: what the others are not, for the warning.
    """
    good, first = [], ""
    for i, file in enumerate(files):
        try:
            images[i]
        except ValueError:
            first = first or str(file)
        else:
            good.append(i)
    if first:
        warnings.warn(
            f"skipped {len(files) - len(good)} of {len(files)} files that are no {nothing}, first "
            f"{first}",
            stacklevel=4,
        )
    return good


def as_pixels(
    image: Any,
    *,
    channels: int,
    size: tuple[int, int] | None,
    multiple: int,
    max_value: float = 255.0,
) -> Tensor:
    """Return an image as pixels [C, height, width].

    Args:
        image: a path or an image of Pillow, whose pixels become 0 to `max_value`; or an array
            [C, height, width] or [height, width] with such values.
        channels: C.
        size: height and width that paths and images of Pillow are resized to.
        multiple: divides the height and width of the result, which is cropped at the centre.
        max_value: the value of the brightest pixel.

    Raises:
        ValueError: when a file cannot be read, or the image has other channels or is too small.
    """
    if isinstance(image, str | os.PathLike) or hasattr(image, "convert"):
        pixels = read_image(image, channels, size)
        if max_value != 255:
            pixels = pixels.astype(np.float32) * (max_value / 255)
    else:
        pixels = np.asarray(image)
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or len(pixels) != channels:
            raise ValueError(
                f"image: got an array {pixels.shape}, expected [{channels}, height, width]"
            )
    return _cropped(pixels, multiple, image if isinstance(image, str) else "image")


def _cropped(pixels: np.ndarray, multiple: int, name: str) -> Tensor:
    """Return pixels [C, height, width] cropped at the centre to multiples of a patch's side."""
    height, width = (side // multiple * multiple for side in pixels.shape[1:])
    if not height or not width:
        raise ValueError(
            f"{name}: got {pixels.shape[1]} x {pixels.shape[2]} pixels, expected at least a patch "
            f"of {multiple} x {multiple}; remove it, set size, or set skip_corrupt"
        )
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return torch.from_numpy(pixels[:, top : top + height, left : left + width].copy())


def read_image(file: Any, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return an image file as bytes [C, height, width], upright as viewers show it.

    16 bits per channel are reduced to the upper 8, with a warning if all values are small. The
    colours of transparent pixels are kept.

    Args:
        file: of any format that Pillow reads, its path or content; or an image of Pillow.
        channels: 3 for colour, 1 for grey.
        size: height and width that the image is resized to.

    Raises:
        ValueError: when the file cannot be read.
        ModuleNotFoundError: when Pillow is not installed.
    """
    image_module = _pillow()
    from PIL import ImageOps

    if isinstance(file, str | os.PathLike) and not Path(file).exists():
        raise ValueError(f"{file}: got a missing file, expected an image; correct the path")
    try:
        source = BytesIO(file.content) if isinstance(file, EncodedImage) else file
        opened = nullcontext(file) if hasattr(file, "convert") else image_module.open(source)
        with opened as image:
            in_bytes = _in_bytes(image, file)
            upright = ImageOps.exif_transpose(in_bytes)
            converted = upright.convert("RGB" if channels == 3 else "L")
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        image_module.DecompressionBombError,
    ) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file}: got no image that can be read ({reason}), expected one; repair or remove "
            "it, or set skip_corrupt"
        ) from None
    if size is not None:
        converted = converted.resize((size[1], size[0]), image_module.Resampling.BILINEAR)
    pixels = np.asarray(converted, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _in_bytes(image: Any, file: Any) -> Any:
    """A Pillow image with 8 bits per channel; Pillow's own conversion clips at 255."""
    # Older versions of Pillow read 16 bits as mode I.
    has_16_bits = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode.startswith("I;16") or has_16_bits:
        exif, values = image.getexif(), np.asarray(image)
        if 0 < values.max() < NARROW_RANGE:
            _warn_of_narrow_range(file, int(values.max()))
        in_bytes = _pillow().fromarray((values >> 8).astype(np.uint8))
        in_bytes.getexif().update(exif)
        return in_bytes
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is unknown: save 8 or 16 bits")
    return image.convert("RGBA") if image.mode == "P" else image


_warned: set[Path] = set()
"""Folders whose 16-bit pictures a warning has named."""


def _warn_of_narrow_range(file: Any, top: int) -> None:
    folder = Path(str(file)).parent
    if folder in _warned:
        return
    _warned.add(folder)
    warnings.warn(
        f"{file}: got 16-bit pixels up to {top} of 65,535, which become nearly black; scale pixels "
        "of 10 or 12 bits to the whole range before saving them",
        stacklevel=2,
    )


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError("image files need Pillow: pip install pillow") from None
    return Image


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings of the files that Pillow reads, such as ".png", in lower case."""
    image_module = _pillow()
    image_module.init()
    return frozenset(
        suffix
        for suffix, name in image_module.registered_extensions().items()
        if name in image_module.OPEN and name not in NO_PICTURES
    )


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a system adds, by its name."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def find_files(folder: Path, suffixes: Collection[str]) -> tuple[list[Path], list[Path]]:
    """Return the files with one of the endings in a folder and below, and the others, sorted.

    Hidden files, files of the system and the contents of such folders are left out; links to
    folders are followed.
    """
    chosen: list[Path] = []
    others: list[Path] = []
    for path in _walk(folder, set()):
        (chosen if path.suffix.lower() in suffixes else others).append(path)
    return sorted(chosen), sorted(others)


def _walk(folder: Path, visited: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in visited:  # a link to a folder above it
        return
    visited.add(real)
    for path in folder.iterdir():
        if is_ignored(path.name):
            continue
        if path.is_dir():
            yield from _walk(path, visited)
        elif path.is_file():
            yield path


def find_folder(name: str, root: str | None) -> Path:
    """Return a folder: `name` as it is, or under the data root.

    Raises:
        MissingDataError: when neither exists.
    """
    for folder in (Path(name).expanduser(), data_root(root) / name):
        if folder.is_dir():
            return folder
    raise MissingDataError(
        f"there is no folder {name}, neither here nor in {data_root(root)}; put it there, or set "
        "root or the variable GRAPHFORMER_DATA to its folder"
    )
