"""Folders of WAV files: classes, splits, durations and predictions of a trained model."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import AudioFolder

RATE = 8000
SETTINGS = {"rate": RATE, "window": 256, "hop": 128, "num_mels": 16, "batch_size": 3}


def write(file: Path, samples: int, seed: int, rate: int = RATE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-(2**14), 2**14, samples)
    with wave.open(str(file), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(noise.astype("<i2").tobytes())


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for number, name in enumerate(("bird", "rain")):
        for i in range(7):
            write(tmp_path / name / f"{i}.wav", 2000 + 700 * i, 10 * number + i)
    return tmp_path


def test_classes_are_folders_and_sounds_keep_their_durations(sounds: Path) -> None:
    data = AudioFolder(str(sounds), **SETTINGS)
    data.setup()
    assert data.classes == ["bird", "rain"]
    assert (data.num_classes, data.channels, data.patch_size) == (2, 1, 8)
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [12, 1, 1]
    names = data.sample_names("train")
    batch = data.samples("train")[torch.arange(12)]
    for name, label, shape in zip(names, batch.y.tolist(), batch.shapes, strict=True):
        folder, _, number = name.partition("/")
        samples = 2000 + 700 * int(number.removesuffix(".wav"))
        assert data.classes[label] == folder
        assert shape == ((samples // 128 + 1) // 8, 2)
    packed = data.pack([sounds / name for name in names])
    assert torch.equal(packed.x, batch.x)


def test_predictions_keep_the_classes_of_training(sounds: Path, tmp_path: Path) -> None:
    data = AudioFolder(str(sounds), **SETTINGS)
    data.setup()
    for i in range(5):
        write(tmp_path / "new" / "rain" / f"{i}.wav", 3000, 99 + i)
    other = AudioFolder(str(tmp_path / "new"), **SETTINGS)
    other.load_state_dict(data.state_dict())
    other.setup()
    assert other.classes == ["bird", "rain"]
    assert other.splits["train"][1].tolist() == [1, 1, 1]


def test_wrong_folders_and_files_are_named(sounds: Path) -> None:
    write(sounds / "bird" / "7.wav", 3000, 5, rate=44_100)
    with pytest.raises(ValueError, match=r"7.wav: got 44100 samples per second, expected 8000"):
        AudioFolder(str(sounds), **SETTINGS).setup()
    data = AudioFolder(str(sounds), skip_corrupt=True, **SETTINGS)
    with pytest.warns(UserWarning, match=r"skipped 1 of 15 files .* first .*7.wav"):
        data.setup()
    assert sum(len(labels) for _, labels in data.splits.values()) == 14
    (sounds / "bird" / "7.wav").unlink()
    write(sounds / "bird" / "8.wav", 100, 5)
    with pytest.raises(ValueError, match=r"8.wav: audio: got 100 samples"):
        AudioFolder(str(sounds), **SETTINGS).setup()
    (sounds / "wind").mkdir()
    (sounds / "wind" / "a.mp3").write_bytes(b"sound")
    with pytest.raises(ValueError, match=r"wind: got no WAV files, expected one or more"):
        AudioFolder(str(sounds), **SETTINGS).setup()
