"""Labelled images as data modules: batches, splits and scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graphformer.data import Digits, IdxImages
from graphformer.data.vision.idx import NAMES, read_idx
from graphformer.nn.patches import patchify


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
    assert batch.shapes == ((3, 5),) * 5
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


def test_senseless_val_size_is_refused(toy: Path) -> None:
    with pytest.raises(ValueError, match="val_size: got 53, expected 1 to 52"):
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
    with pytest.raises(ValueError, match="label_fraction: got 0"):
        labels(label_fraction=0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_augmentation_changes_from_epoch_to_epoch(toy: Path, num_workers: int) -> None:
    data = IdxImages(
        "toy", 2, 1, root=str(toy), val_size=11, augment=["crop:2", "flip"], num_workers=num_workers
    )
    data.setup()
    loader = data.train_dataloader()
    versions: dict[int, set[bytes]] = {}
    for epoch in range(2 if num_workers else 7):
        loader.sampler.set_epoch(epoch)
        for index, batch in zip(loader.sampler, loader, strict=True):
            versions.setdefault(int(index), set()).add(batch.x.numpy().tobytes())
    assert sum(map(len, versions.values())) > (1.5 if num_workers else 5) * len(versions)


@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_checkpoint_keeps_the_statistics_of_its_run(toy: Path, is_set_up: bool) -> None:
    run = IdxImages("toy", 2, 5, root=str(toy), val_size=11)
    run.setup()
    other = IdxImages("toy", 2, 5, root=str(toy), val_size=11, label_fraction=0.2)
    if is_set_up:
        other.setup()
        assert other.mean != run.mean
    other.load_state_dict(run.state_dict())
    other.setup()
    assert (other.mean, other.std) == (run.mean, run.std)
    batches = [next(iter(data.test_dataloader())).x for data in (run, other)]
    assert torch.equal(*batches)


def test_a_checkpoint_of_other_channels_is_refused(toy: Path) -> None:
    data = IdxImages("toy", 2, 5, root=str(toy), val_size=11)
    data.setup()
    with pytest.raises(ValueError, match="images: got 1 channels, expected the 3 of the run"):
        data.load_state_dict({"mean": [0.0] * 3, "std": [1.0] * 3})
    empty = IdxImages("toy", 2, 5, root=str(toy))
    assert empty.state_dict() == {}
    empty.load_state_dict({})  # of an earlier release
    assert not len(empty.mean)
