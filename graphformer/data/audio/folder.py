"""Folders of WAV files with one folder per class, perhaps below folders of splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from graphformer.data.audio.base import Spectrograms, WavFiles
from graphformer.data.audio.wav import SUFFIXES
from graphformer.data.class_folders import ClassFolders


class AudioFolder(Spectrograms, ClassFolders):
    """WAV files in folders, one per class, of any durations.

    The folders are those of `ImageFolder`: the classes are the folders in `path`, or those in
    `path`/train and so on; missing splits are drawn from the training files. PCM of 8, 16, 24 and
    32 bits is read; several channels are averaged.

    Args:
        path: the folder, as it is or under the data root.
        rate: samples per second of all files.
        window, hop, num_mels, patch_size, batch_size, seed: of `Spectrograms`.
        skip_corrupt: leave out files that cannot be read, have another rate or are shorter than a
            patch, and warn; this reads all files at the start.
        val_fraction, test_fraction: shares of the training files for splits without a folder.
        root: the data root.

    Raises:
        MissingDataError: when there is no such folder.
        ValueError: when a class has no files, or a file cannot be read or has another rate.
    """

    noun: ClassVar[str] = "WAV file"

    def __init__(
        self,
        path: str,
        rate: int = 16_000,
        *,
        window: int = 512,
        hop: int = 256,
        num_mels: int = 32,
        patch_size: int = 8,
        batch_size: int = 32,
        skip_corrupt: bool = False,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            rate=rate,
            window=window,
            hop=hop,
            num_mels=num_mels,
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=0,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.path, self.root, self.fractions = path, root, (val_fraction, test_fraction)
        self.skip_corrupt = skip_corrupt
        self.classes: list[str] = []

    def suffixes(self) -> Collection[str]:
        """Return the endings of WAV files."""
        return SUFFIXES

    def open_files(self, files: Sequence[Path]) -> WavFiles:
        """Return the spectrograms of files."""
        return WavFiles(files, self)
