"""`Spectrograms`, the base of audio data: log-mel spectrograms as images of one channel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.audio.spectrogram import log_mel, mel_filters
from graphformer.data.audio.wav import read_wav
from graphformer.data.vision.base import PatchImages
from graphformer.data.vision.files import readable_files


class Spectrograms(PatchImages):
    """Sounds as spectrograms [1, frames, num_mels], whose patches are nodes by time and frequency.

    The rows of a spectrogram are times, its columns frequencies: `Grid(r, causal=True)` leaves out
    later times. Models of images classify them; see `log_mel` for the spectrogram and
    `ImageSamples` for the fields of a batch. Frames after the last whole patch are left out.

    Args:
        rate: samples per second.
        window: samples of a frame of the spectrogram.
        hop: samples from one frame to the next.
        num_mels: number of frequencies.
        patch_size: side of a patch in frames and in frequencies.
        batch_size: sounds per batch.
        val_size: number of validation sounds, if `read` returns no validation split.
        seed: of the splits and the order.

    Raises:
        ValueError: when a number is below 1, patch_size does not divide num_mels, or a filter has
            no frequency.
    """

    def __init__(
        self,
        *,
        rate: int,
        window: int,
        hop: int,
        num_mels: int,
        patch_size: int,
        batch_size: int,
        val_size: int,
        seed: int,
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, val_size=val_size, seed=seed)
        for name, value in {
            "rate": rate,
            "window": window,
            "hop": hop,
            "num_mels": num_mels,
        }.items():
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected 1 or more")
        if num_mels % patch_size:
            raise ValueError(
                f"patch_size: got {patch_size}, expected a divisor of num_mels, {num_mels}"
            )
        mel_filters(rate, window, num_mels)  # raises when a filter is empty
        self.rate, self.window, self.hop, self.num_mels = rate, window, hop, num_mels

    def spectrogram(self, signal: Tensor) -> Tensor:
        """Return the spectrogram [..., frames, num_mels] of signals [..., T], in whole patches.

        Raises:
            ValueError: when the signal is shorter than a patch.
        """
        frames = (signal.shape[-1] // self.hop + 1) // self.patch_size * self.patch_size
        if not frames:
            raise ValueError(
                f"audio: got {signal.shape[-1]} samples, expected at least "
                f"{(self.patch_size - 1) * self.hop}, a patch of {self.patch_size} frames; remove "
                "it, or lower hop or patch_size"
            )
        found = log_mel(
            signal, rate=self.rate, window=self.window, hop=self.hop, num_mels=self.num_mels
        )
        return found[..., :frames, :]

    def pack(self, inputs: Sequence[Any]) -> Batch:
        """Return sounds as a batch of patches, scaled as in training.

        Args:
            inputs: paths of WAV files, or arrays [T] of samples from -1 to 1 at the rate.

        Raises:
            RuntimeError: before `setup`, without a checkpoint's state.
            ValueError: when a file cannot be read, or a sound has another shape or is too short.
        """
        if not len(self.mean):
            raise RuntimeError(f"{type(self).__name__} has no statistics yet; call setup() first")
        images = [self.spectrogram(self._signal(sound))[None] for sound in inputs]
        batch = self.scaled_samples("test", images, torch.zeros(len(images)))[
            torch.arange(len(images))
        ]
        del batch.y
        return batch

    def _signal(self, sound: Any) -> Tensor:
        if isinstance(sound, str | os.PathLike):
            return torch.from_numpy(read_wav(Path(sound), self.rate))
        signal = torch.as_tensor(np.asarray(sound, np.float32))
        if signal.ndim != 1:
            raise ValueError(f"audio: got an array {tuple(signal.shape)}, expected samples [T]")
        return signal

    def pixels(self, x: Tensor) -> Tensor:
        """Return patches of a batch, [..., patch_size**2], as brightness from 0 to 1 for figures.

        The mean is 0.5, and two standard deviations are 0.5.
        """
        return (x / 4 + 0.5).clamp(0, 1)


class WavFiles(Sequence[Tensor]):
    """Spectrograms [1, frames, num_mels] of WAV files, computed when they are accessed.

    Args:
        files: their paths.
        data: that computes the spectrograms.
    """

    def __init__(self, files: Sequence[Path], data: Spectrograms) -> None:
        self.files, self.data = list(files), data

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: Any) -> Any:
        signal = torch.from_numpy(read_wav(self.files[i], self.data.rate))
        try:
            return self.data.spectrogram(signal)[None]
        except ValueError as error:
            raise ValueError(f"{self.files[i]}: {error}") from None

    def readable(self) -> list[int]:
        """Return the indices of the files that can be read and are not too short; reads them all.

        A warning states the number of the others.
        """
        return readable_files(self, self.files, "WAV files of the rate or too short")
