"""Array files: the layouts of Keras, MedMNIST and CIFAR."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import ImageArrays
from graphformer.data.vision.arrays import brightest_value, is_cifar, read_cifar, read_npz

RNG = np.random.default_rng(3)
TRAIN = RNG.integers(0, 256, (11, 3, 32, 32), dtype=np.uint8)
TEST = RNG.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def test_medmnist_is_read_with_its_validation_split(tmp_path: Path) -> None:
    sizes = {"train": 13, "val": 5, "test": 7}
    arrays = {}
    for split, size in sizes.items():
        arrays[f"{split}_images"] = np.full((size, 6, 10, 3), size, np.uint8)
        arrays[f"{split}_labels"] = np.arange(size)[:, None] % 3
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    data = ImageArrays(str(tmp_path / "bloodmnist.npz"), 2, 4, val_size=999)
    data.setup()
    for split, size in sizes.items():
        batches = list(data.batches(split))
        assert sum(len(batch.y) for batch in batches) == size
        pixels = 255 * data.pixels(torch.cat([batch.x for batch in batches]))
        torch.testing.assert_close(pixels, torch.full_like(pixels, size), atol=1e-3, rtol=0)


def test_channels_may_come_first(tmp_path: Path) -> None:
    images = {f"x_{split}": x for split, x in (("train", TRAIN), ("test", TEST))}
    labels = {"y_train": np.arange(11) % 2, "y_test": np.arange(5) % 2}
    np.savez(tmp_path / "set.npz", **images, **labels)
    splits = read_npz(tmp_path / "set.npz")
    assert torch.equal(splits["train"][0], torch.from_numpy(TRAIN))
    assert splits["test"][1].tolist() == [0, 1, 0, 1, 0]


def write_cifar(folder: Path, form: str) -> None:
    folder.mkdir()
    labels = {"train": (np.arange(11) % 4).tolist(), "test": [3, 2, 1, 0, 3]}
    if form == "10, pickled":
        for i, rows in enumerate((slice(0, 6), slice(6, 11)), 1):
            batch = {b"data": TRAIN[rows].reshape(-1, 3072), b"labels": labels["train"][rows]}
            (folder / f"data_batch_{i}").write_bytes(pickle.dumps(batch))
        batch = {b"data": TEST.reshape(-1, 3072), b"labels": labels["test"]}
        (folder / "test_batch").write_bytes(pickle.dumps(batch))
    elif form == "100, pickled":
        for split, images in (("train", TRAIN), ("test", TEST)):
            batch = {b"data": images.reshape(-1, 3072), b"fine_labels": labels[split]}
            batch[b"coarse_labels"] = [9] * len(images)
            (folder / split).write_bytes(pickle.dumps(batch))
    else:
        names = {"train": "data_batch_1.bin", "test": "test_batch.bin"}
        for split, images in (("train", TRAIN), ("test", TEST)):
            own = np.array(labels[split], np.uint8)[:, None]
            columns = [own, images.reshape(-1, 3072)]
            if form == "100, binary":
                columns, names = [np.full_like(own, 9), *columns], {s: f"{s}.bin" for s in names}
            (folder / names[split]).write_bytes(np.hstack(columns).tobytes())


@pytest.mark.parametrize("form", ["10, pickled", "100, pickled", "10, binary", "100, binary"])
def test_cifar_is_read_in_all_versions(form: str, tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar", form)
    assert is_cifar(tmp_path / "cifar")
    splits = read_cifar(tmp_path / "cifar")
    assert torch.equal(splits["train"][0], torch.from_numpy(TRAIN))
    assert torch.equal(splits["test"][0], torch.from_numpy(TEST))
    assert splits["train"][1].tolist() == [i % 4 for i in range(11)]
    assert splits["test"][1].tolist() == [3, 2, 1, 0, 3]
    data = ImageArrays("cifar", 8, 4, root=str(tmp_path), val_size=3)
    data.setup()
    assert (data.channels, data.num_classes, data.shape) == (3, 4, (4, 4))


class Harmful:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('harmed', 'w')",)


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / "cifar", "100, pickled")
    (tmp_path / "cifar" / "train").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match=r"train: got no batch of CIFAR \(it uses builtins.eval"):
        read_cifar(tmp_path / "cifar")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test_batch", b"", "got no files of CIFAR"),
        ("data_batch_1", b"no pickle", "got no batch of CIFAR"),
        ("data_batch_1", pickle.dumps({b"labels": [1]}), "got no batch of CIFAR"),
        ("data_batch_1.bin", b"\0" * 3000, "got 3000 bytes, expected a multiple of 3073"),
    ],
)
def test_damaged_cifar_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"test_batch{Path(name).suffix}").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        read_cifar(tmp_path)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 1], torch.bool, 1),
        ([0.0, 0.9], torch.float32, 1),
        ([0.0, 200.0], torch.float32, 255),
        ([0, 1], torch.uint8, 255),
        ([0, 300], torch.int32, 65_535),
        ([], torch.uint8, 255),
    ],
)
def test_the_range_of_pixels(values: list[float], dtype: torch.dtype, expected: float) -> None:
    assert brightest_value(torch.tensor(values).to(dtype)) == expected


def test_floats_up_to_one_are_drawn_as_they_are(tmp_path: Path) -> None:
    images = RNG.random((23, 4, 4)).astype(np.float32)
    labels = np.arange(23) % 2
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for options, scale in (({}, 1.0), ({"max_value": 2.0}, 0.5)):
        data = ImageArrays(str(tmp_path / "set.npz"), 4, 23, val_size=5, **options)
        data.setup()
        pixels = data.pixels(next(iter(data.batches("test"))).x).reshape(23, 4, 4)
        np.testing.assert_allclose(pixels, scale * images, atol=1e-6)
    with pytest.warns(FutureWarning, match="largest of .* is now called max_value"):
        ImageArrays("set.npz", largest=255.0)
