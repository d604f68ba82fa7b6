"""WAV files: samples of every width by hand, channels, and files that cannot be read."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from graphformer.data.audio.wav import read_wav

RATE = 8000


def write(file: Path, raw: bytes, *, width: int, channels: int = 1, rate: int = RATE) -> Path:
    with wave.open(str(file), "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(raw)
    return file


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width(tmp_path: Path, width: int) -> None:
    one = 2 ** (8 * width - 1)
    numbers = [0, one // 2, -one, -one // 128]
    if width == 1:
        raw = bytes(number + 128 for number in numbers)
    else:
        raw = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
    samples = read_wav(write(tmp_path / "a.wav", raw, width=width), RATE)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, [0, 0.5, -1, -1 / 128])


def test_channels_are_averaged(tmp_path: Path) -> None:
    raw = np.array([[2**14, 0], [-(2**15), 2**14]], "<i2").tobytes()
    samples = read_wav(write(tmp_path / "a.wav", raw, width=2, channels=2), RATE)
    np.testing.assert_allclose(samples, [0.25, -0.25])


def test_another_rate_says_what_to_do(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", bytes(8), width=2, rate=44_100)
    with pytest.raises(ValueError, match=r"got 44100 .* expected 8000; .* -ar 8000 .* set rate"):
        read_wav(file, RATE)


def test_files_that_are_no_sound(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.wav", b"", width=2)
    with pytest.raises(ValueError, match="empty.wav: got no samples"):
        read_wav(empty, RATE)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    zero = tmp_path / "zero.wav"
    zero.write_bytes(b"")
    for file in (text, zero, tmp_path / "absent.wav"):
        with pytest.raises(ValueError, match=r"got no WAV file of PCM samples .* ffmpeg"):
            read_wav(file, RATE)
    floats = bytearray(write(tmp_path / "float.wav", bytes(16), width=4).read_bytes())
    floats[20] = 3  # the format IEEE float
    text.write_bytes(bytes(floats))
    with pytest.raises(ValueError, match=r"unknown format: 3"):
        read_wav(text, RATE)
