"""Folders of images with one folder per class, perhaps below folders of splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import Unpack

from graphformer.data.class_folders import ClassFolders
from graphformer.data.vision.base import PatchImagesOptions
from graphformer.data.vision.files import ImageFiles, image_suffixes
from graphformer.options import checked_options


class ImageFolder(ClassFolders):
    """Images in folders, one per class, of any format that Pillow reads, in their own sizes.

    The classes are the folders in `path`, sorted by name; or those in `path`/train (or training),
    where `path`/val (valid, validation, dev) and `path`/test (testing) have the same classes.
    Missing splits are drawn from the training images, the same share of every class. Hidden files
    and those of the system are left out; a warning names files that are no images. The class names
    are part of a run's checkpoint: other folders of a run may lack classes, but add none.

    Args:
        path: the folder, as it is or under the data root.
        patch_size, batch_size, options: of `PatchImages`.
        size: height and width that images are resized to; with None each keeps its own, cropped
            at the centre to multiples of `patch_size`, and a batch has several sizes.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: leave out files that cannot be read or are smaller than a patch, and warn;
            this reads all files at the start.
        val_fraction, test_fraction: shares of the training images for splits without a folder.
        stratify: whether the shares are drawn from each class; runs of earlier releases, whose
            settings lack it, draw from all images.
        root: the data root.

    Raises:
        MissingDataError: when there is no such folder.
        ValueError: when a class has no images, or a file cannot be read.
    """

    noun: ClassVar[str] = "image"

    @checked_options
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
        stratify: bool = True,
        root: str | None = None,
        **options: Unpack[PatchImagesOptions],
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=0,
            **options,
        )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.size, self.channels = path, root, size, channels
        self.skip_corrupt, self.fractions = skip_corrupt, (val_fraction, test_fraction)
        self.stratify = stratify
        self.classes: list[str] = []

    def suffixes(self) -> Collection[str]:
        """Return the endings of the files that Pillow reads."""
        return image_suffixes()

    def open_files(self, files: Sequence[Path]) -> ImageFiles:
        """Return the images of files."""
        return ImageFiles(files, size=self.size, channels=self.channels, multiple=self.patch_size)
