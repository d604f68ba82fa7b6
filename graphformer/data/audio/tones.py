"""Generated tones in noise, whose class is how they change in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from graphformer.data.audio.base import Spectrograms
from graphformer.data.vision.base import ImagesAndLabels

TONES = ("rising", "falling", "step up", "step down", "steady", "tremolo", "chord", "arpeggio")
"""The classes of `Tones`."""
RATE = 8000
"""Samples per second."""
LOWEST, HIGHEST = 200.0, 1200.0
"""Range of the lower frequency in Hz; the higher one is 1.5 to 2.5 times as high."""
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}


def tone(kind: str, num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Return a tone with an amplitude of at most 1, float32 [num_samples].

    Frequencies change from f to g or back: continuously (rising, falling), halfway (step up, step
    down) or never (steady, and tremolo, whose amplitude varies 4 to 8 times a second). A chord has
    f, the middle and g at once, an arpeggio one after the other.

    Args:
        kind: one of `TONES`.
        num_samples: of the tone.
        generator: draws f, g and the phase.
    """
    f = generator.uniform(LOWEST, HIGHEST)
    g = f * generator.uniform(1.5, 2.5)
    share = np.arange(num_samples) / num_samples
    middle = (f + g) / 2
    curves = {
        "rising": f + (g - f) * share,
        "falling": g + (f - g) * share,
        "step up": np.where(share < 0.5, f, g),
        "step down": np.where(share < 0.5, g, f),
        "arpeggio": np.select([share < 1 / 3, share < 2 / 3], [f, middle], g),
    }
    start = generator.uniform(0, 2 * np.pi)
    if kind == "chord":
        waves = [_wave(np.full(num_samples, each), start) for each in (f, middle, g)]
        return np.stack(waves).mean(0).astype(np.float32)
    signal = _wave(curves.get(kind, np.full(num_samples, f)), start)
    if kind == "tremolo":
        seconds = np.arange(num_samples) / RATE
        signal *= 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(4, 8) * seconds)
    return signal.astype(np.float32)


def _wave(frequency: np.ndarray, start: float) -> np.ndarray:
    """A sine of a frequency that varies in time, [T] in Hz."""
    return np.sin(start + 2 * np.pi * np.cumsum(frequency) / RATE)


class Tones(Spectrograms):
    """Sounds of one tone in white noise; the class, one of `TONES`, is how it changes in time.

    A tone lasts 60 to 100 % of the sound and starts at random. Its power is -3 to 12 dB of that of
    the noise. A sound depends on the seed, its split and its index only; it has 8,000 samples per
    second.

    Args:
        num_samples: number of training sounds.
        val_size, test_size: number of validation and of test sounds.
        seconds: duration of a sound.
        window, hop, num_mels, patch_size, batch_size, seed: of `Spectrograms`.

    Attributes:
        classes: names of the classes.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(
        self,
        num_samples: int = 4000,
        *,
        val_size: int = 500,
        test_size: int = 1000,
        seconds: float = 1.0,
        window: int = 400,
        hop: int = 125,
        num_mels: int = 32,
        patch_size: int = 8,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(
            rate=RATE,
            window=window,
            hop=hop,
            num_mels=num_mels,
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=val_size,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.sizes = {"train": num_samples, "val": val_size, "test": test_size}
        for split, count in self.sizes.items():
            if count < 1:
                raise ValueError(f"{split}: got {count} sounds, expected 1 or more")
        self.duration = round(seconds * RATE)
        self.spectrogram(torch.zeros(max(self.duration, 1)))  # raises when it is too short
        self.classes = list(TONES)

    def sound(self, split: str, number: int) -> tuple[np.ndarray, int]:
        """Return a sound, float32 [T], and its class.

        Args:
            split: "train", "val" or "test".
            number: its index in the split.
        """
        generator = np.random.default_rng((self.seed, SPLIT_NUMBERS[split], number))
        label = int(generator.integers(len(TONES)))
        length = round(self.duration * generator.uniform(0.6, 1.0))
        start = generator.integers(self.duration - length + 1)
        own = tone(TONES[label], length, generator)
        scale = np.sqrt(np.mean(own**2) / 10 ** (generator.uniform(-3, 12) / 10))
        sound = scale * generator.standard_normal(self.duration)
        sound[start : start + length] += own
        return (sound / np.abs(sound).max()).astype(np.float32), label

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the spectrograms [B, 1, frames, num_mels] and classes of all splits."""
        splits: dict[str, ImagesAndLabels] = {}
        for split, count in self.sizes.items():
            pairs = [self.sound(split, number) for number in range(count)]
            images = [self.spectrogram(torch.from_numpy(sound)) for sound, _ in pairs]
            labels = torch.tensor([label for _, label in pairs])
            splits[split] = (torch.stack(images).unsqueeze(1), labels)
        return splits

    def setup(self, stage: str | None = None) -> None:
        """Generate the sounds and compute the statistics, once."""
        super().setup(stage)
        self.num_classes = len(self.classes)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the class names, for a checkpoint."""
        return {**super().state_dict(), "classes": list(self.classes)}
