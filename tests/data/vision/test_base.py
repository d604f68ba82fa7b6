from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import unfold

from graphformer.data import Digits, IdxImages, MissingDataError
from graphformer.data.vision.base import ImageSamples, patchify, pixel_statistics
from graphformer.data.vision.idx import NAMES, SOURCES, find_idx_folder, read_idx


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A set of 6 x 10 images: 53 to train and validate on, 17 to test on."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "toy"
    folder.mkdir()
    for names, count in zip((NAMES[:2], NAMES[2:]), (53, 17), strict=True):
        images = rng.integers(0, 256, (count, 6, 10), dtype=np.uint8)
        (folder / names[0]).write_bytes(idx(images))
        (folder / names[1]).write_bytes(idx(np.arange(count, dtype=np.uint8) % 7))
    return folder


def test_patchify_equals_unfold() -> None:
    images = torch.rand(3, 2, 10, 15)
    patches = patchify(images, 5)
    assert patches.shape == (3, 2, 3, 50)
    expected = unfold(images, 5, stride=5).mT
    assert torch.equal(patches.flatten(1, 2), expected)
    with pytest.raises(ValueError, match="patch_size is 4.*10 x 15"):
        patchify(images, 4)


def test_batches_of_patches(toy: Path) -> None:
    data = IdxImages("toy", 2, 5, root=str(toy), val_size=11)
    data.prepare_data()
    data.setup("fit")
    assert (data.num_features, data.num_classes, data.shape) == (4, 7, (3, 5))
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (75, 4)
    assert batch.x.dtype == torch.float32
    assert batch.y.shape == (5,)
    assert batch.lengths == (15,) * 5
    assert batch.shapes == [(3, 5)] * 5
    assert batch.pos[:6].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 0]]
    assert torch.equal(batch.pos[:15], batch.pos[60:])


def test_packing_loses_no_image_and_normalises(toy: Path) -> None:
    data = IdxImages("toy", 2, 5, root=str(toy), val_size=11)
    data.setup()
    raw = torch.from_numpy(read_idx(toy / NAMES[2]).copy())[:, None].float()
    test = list(data.test_dataloader())
    packed = torch.cat([batch.x for batch in test]).view(17, 15, 4)
    back = 255 * data.pixels(packed)
    torch.testing.assert_close(back, patchify(raw, 2).flatten(1, 2), atol=1e-3, rtol=0)
    assert torch.cat([batch.y for batch in test]).tolist() == [i % 7 for i in range(17)]
    train = torch.cat([batch.x for batch in data.train_dataloader()])
    torch.testing.assert_close(train.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std(), torch.tensor(1.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["idx", "digits"])
def test_splits_are_disjoint_and_seeded(kind: str, toy: Path) -> None:
    def splits(seed: int) -> list[set[bytes]]:
        if kind == "idx":
            data = IdxImages("toy", 2, 5, root=str(toy), val_size=11, seed=seed)
        else:
            data = Digits(2, 64, val_size=101, test_size=211, seed=seed)
        data.setup()
        loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
        return [
            {image.numpy().tobytes() for b in loader for image in b.x.split(b.lengths[0])}
            for loader in loaders
        ]

    train, val, test = splits(0)
    sizes = [42, 11, 17] if kind == "idx" else [1485, 101, 211]
    assert [len(train), len(val), len(test)] == sizes
    assert not train & val
    assert not (train | val) & test
    assert splits(0) == [train, val, test]
    assert splits(1)[1] != val


def test_digits_are_nodes() -> None:
    data = Digits(patch_size=1, batch_size=13)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert (data.num_features, data.num_classes, data.shape) == (1, 10, (8, 8))
    assert batch.x.shape == (13 * 64, 1)
    with pytest.raises(ValueError, match="test_size is 5000"):
        Digits(test_size=5000).setup()


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw", "mnist/MNIST/raw"])
def test_files_are_found_in_the_usual_places(place: str, toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "root" / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    toy.rename(folder)
    assert find_idx_folder(tmp_path / "root", "MNIST") == folder


def test_missing_files_are_downloaded_once_and_checked(
    toy: Path, tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = server
    for name in NAMES:
        (served / name).write_bytes((toy / name).read_bytes())
    sums = [hashlib.md5((toy / name).read_bytes()).hexdigest() for name in NAMES]
    monkeypatch.setitem(SOURCES, "MNIST", (url, sums))
    root = tmp_path / "root"
    IdxImages("MNIST", 2, root=str(root)).prepare_data()
    folder = root / "mnist" / "MNIST" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    monkeypatch.setitem(SOURCES, "MNIST", ("http://127.0.0.1:1", sums))
    IdxImages("MNIST", 2, root=str(root)).prepare_data()

    (served / NAMES[3]).write_bytes(b"corrupted")
    (folder / NAMES[3]).unlink()
    with pytest.raises(MissingDataError, match="MD5"):
        IdxImages("MNIST", 2, root=str(root), base_url=url).prepare_data()
    assert not (folder / NAMES[3]).exists()


def test_missing_set_without_network_or_address_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"train-images-idx3-ubyte\.gz.*put the file there"):
        IdxImages(root=str(tmp_path), base_url="http://127.0.0.1:1").prepare_data()
    with pytest.raises(MissingDataError, match="'KMNIST'.*base_url"):
        IdxImages("KMNIST", root=str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "damaged gzip"),
        (idx(np.zeros((3, 5), np.uint8))[:-9], "damaged gzip"),
        (gzip.compress(b"abcdefgh"), "not an idx file"),
        (gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\x05" + b"abc"), "has 3"),
    ],
    ids=["no gzip", "cut off", "other content", "too short"],  # gzip writes the time
)
def test_damaged_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "x.gz")


def test_senseless_val_size_is_refused(toy: Path) -> None:
    with pytest.raises(ValueError, match="val_size is 53: expected 1 to 52"):
        IdxImages("toy", 2, root=str(toy), val_size=53).setup()


def test_a_share_of_the_labels_is_drawn_from_every_class(toy: Path) -> None:
    def labels(**settings: Any) -> list[int]:
        data = IdxImages("toy", 2, 5, root=str(toy), val_size=11, **settings)
        data.setup()
        return sorted(torch.cat([batch.y for batch in data.train_dataloader()]).tolist())

    some = labels(label_fraction=0.2)
    assert set(some) == set(range(7))
    assert len(some) < 10
    assert labels(label_fraction=0.2) == some
    assert len(labels()) == 42
    with pytest.raises(ValueError, match="label_fraction is 0"):
        labels(label_fraction=0)


def test_images_of_several_sizes_are_packed_in_the_order_asked_for() -> None:
    sizes = [(4, 6), (2, 2), (4, 6), (6, 2)]
    images = [torch.full((3, *size), float(i)) for i, size in enumerate(sizes)]
    labels = torch.tensor([5, 3, 2, 7])
    samples = ImageSamples(images, labels, 2, np.zeros(3), np.ones(3))
    batch = samples[torch.tensor([2, 1, 3])]
    assert batch.shapes == [(2, 3), (1, 1), (3, 1)]
    assert batch.lengths == (6, 1, 3)
    assert batch.x[:, 0].tolist() == [2.0] * 6 + [1.0] + [3.0] * 3
    assert batch.pos[7:].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert batch.y.tolist() == [2, 3, 7]


def test_channels_are_scaled_apart_and_constants_stay_finite() -> None:
    images = torch.stack([torch.rand(7, 4, 4), 100 + 10 * torch.rand(7, 4, 4), torch.ones(7, 4, 4)])
    mean, std = pixel_statistics(images.transpose(0, 1))
    assert mean.shape == (3,)
    assert 100 < mean[1] < 110
    assert std[2] == 1.0


def test_fashion_mnist_is_read(real_data: Callable[[str], Path]) -> None:
    folder = real_data("fashion_mnist/FashionMNIST/raw")
    images = read_idx(folder / NAMES[2])
    labels = read_idx(folder / NAMES[3])
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert find_idx_folder(folder.parents[2], "FashionMNIST") == folder


def test_sets_that_do_not_fit_are_refused(toy: Path) -> None:
    images, labels = ((toy / name).read_bytes() for name in NAMES[:2])
    (toy / NAMES[0]).write_bytes(labels)
    with pytest.raises(ValueError, match=r"train-images.* shape \(53,\): expected 3 axes"):
        IdxImages("toy", 2, root=str(toy), val_size=11).setup()
    (toy / NAMES[0]).write_bytes(images)
    (toy / NAMES[1]).write_bytes(idx(np.zeros(50, np.uint8)))
    with pytest.raises(ValueError, match=r"labels: got shape \(50,\) for 53 images"):
        IdxImages("toy", 2, root=str(toy), val_size=11).setup()
    with pytest.raises(ValueError, match="patch_size: got -2"):
        IdxImages("toy", -2, root=str(toy))
