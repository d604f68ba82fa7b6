"""WAV files of PCM samples as arrays, by the standard library."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

SUFFIXES = frozenset((".wav", ".wave"))


def read_wav(file: Path, rate: int) -> np.ndarray:
    """Return the samples of a WAV file from -1 to 1, float32 [T]; the mean of several channels.

    Args:
        file: PCM of 8 (unsigned), 16, 24 or 32 bits (signed).
        rate: the samples per second that it must have.

    Raises:
        ValueError: when the file is none of these, has another rate, or no samples.
    """
    convert = f"convert it, such as by ffmpeg -i IN -ar {rate} -c:a pcm_s16le OUT.wav"
    try:
        with wave.open(str(file), "rb") as reader:
            own_rate, width, channels = (
                reader.getframerate(),
                reader.getsampwidth(),
                reader.getnchannels(),
            )
            raw = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        reason = " ".join(str(error).split()) or "it ends too early"
        raise ValueError(
            f"{file}: got no WAV file of PCM samples ({reason}), expected one; {convert}"
        ) from None
    if own_rate != rate:
        raise ValueError(
            f"{file}: got {own_rate} samples per second, expected {rate}; {convert}, or set rate"
        )
    frames = len(raw) // (width * channels)  # a file that was cut off may end within a frame
    if not frames:
        raise ValueError(f"{file}: got no samples, expected one or more; remove it")
    samples = _decode(raw[: frames * width * channels], width)
    return samples.reshape(frames, channels).mean(1)


def _decode(raw: bytes, width: int) -> np.ndarray:
    """Little-endian integers of `width` bytes as float32 from -1 to 1."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:  # as the upper three bytes of 32 bits
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return (padded.view("<i4")[:, 0] / 2**31).astype(np.float32)
    return (np.frombuffer(raw, f"<i{width}") / 2 ** (8 * width - 1)).astype(np.float32)
