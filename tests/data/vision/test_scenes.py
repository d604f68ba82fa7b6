"""Composed scenes: what is shown and said, and the combinations that are held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import Scenes
from graphformer.data.vision.scene_objects import CELL, COLOURS, DIGITS, Group, Scene

SMALL = {"num_samples": 61, "val_size": 13, "test_size": 31, "batch_size": 7}


def digits(**settings: object) -> Scenes:
    data = Scenes("digits", **{**SMALL, **settings})
    data.setup()
    return data


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return digits()


def test_sentences_say_what_is_where() -> None:
    first = Group(6, "red", ((0, 1), (0, 2)))
    second = Group(3, "blue", ((2, 0),))
    assert Scene((first, second), "above").caption(DIGITS) == "two red sixes above a blue three"
    assert Scene((second,), None).caption(DIGITS) == "a blue three"


def test_scenes_show_what_their_sentences_say(scenes: Scenes) -> None:
    images = scenes.splits["train"][0]
    assert images.shape == (61, 3, 48, 48)
    for image, scene in zip(images, scenes.scenes["train"], strict=True):
        lit = image.amax(0).reshape(3, CELL, 3, CELL).amax(dim=(1, 3)) > 0
        cells = {cell for group in scene.groups for cell in group.cells}
        assert {tuple(cell) for cell in lit.nonzero().tolist()} == cells
        for group in scene.groups:
            row, column = group.cells[0]
            own = image[:, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            brightest = own.flatten(1).amax(1) / 255
            tint = torch.tensor(COLOURS[group.colour])
            torch.testing.assert_close(brightest / brightest.max(), tint, atol=0.01, rtol=0)
        if scene.relation is not None:
            a, b = scene.groups
            axis = 0 if scene.relation == "above" else 1
            assert max(cell[axis] for cell in a.cells) < min(cell[axis] for cell in b.cells)
            across = [{cell[1 - axis] for cell in group.cells} for group in scene.groups]
            assert max(across[0]) >= min(across[1])
            assert max(across[1]) >= min(across[0])


def test_the_test_shows_what_training_never_puts_together(scenes: Scenes) -> None:
    def combinations(split: str) -> set[tuple[int, str | None, int]]:
        pairs = [s for s in scenes.scenes[split] if s.relation is not None]
        return {(s.groups[0].kind, s.relation, s.groups[1].kind) for s in pairs}

    assert not combinations("train") & combinations("test")
    assert not combinations("val") & combinations("test")
    said = scenes.splits["test"][1]
    assert len(said) == len(set(said)) == 31
    assert all(scene.relation is not None for scene in scenes.scenes["test"])
    assert any(scene.relation is None for scene in scenes.scenes["train"])


def test_scenes_depend_on_the_seed_alone(scenes: Scenes) -> None:
    again, other = digits(), digits(seed=1)
    for split in ("train", "test"):
        assert torch.equal(again.splits[split][0], scenes.splits[split][0])
        assert again.splits[split][1] == scenes.splits[split][1]
    assert other.splits["train"][1] != scenes.splits["train"][1]
    more = digits(num_samples=67)  # the first ones stay
    assert more.splits["train"][1][:61] == scenes.splits["train"][1]


def test_batches_are_those_of_an_encoder_decoder(scenes: Scenes) -> None:
    batch = next(iter(scenes.test_dataloader()))
    assert (scenes.num_features, scenes.shape) == (192, (6, 6))
    assert batch.source.shape == (7 * 36, 192)
    assert batch.source_shapes == ((6, 6),) * 7
    tokenizer = scenes.need_tokenizer()
    starts = np.cumsum([0, *batch.lengths[:-1]])
    assert (batch.x[starts] == tokenizer.need("bos")).all()
    first = batch.y[: batch.lengths[0]]
    assert first[-1] == tokenizer.need("eos")
    assert scenes.decode(first[:-1]) == scenes.splits["test"][1][0]
    words = set(" ".join(scenes.splits["train"][1]).split())
    assert all(len(tokenizer.encode(word)) == 1 for word in words)


def test_single_things_for_zero_shot(scenes: Scenes) -> None:
    images, said = scenes.zero_shot_set(17)
    assert len(said) == 10
    assert said[4] == ["a red four", "a green four", "a blue four", "a yellow four"]
    batch = images[torch.arange(17)]
    assert batch.y.max() < 10
    assert batch.x.shape == (17 * 36, 192)


def test_clothes_are_composed_too(real_data: Callable[[str], Path]) -> None:
    root = real_data("fashion_mnist").parent
    data = Scenes("clothes", **SMALL, root=str(root))
    data.setup()
    assert any("boot" in caption for caption in data.splits["train"][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "fruit"}, "source: got 'fruit'"),
        ({"rows": 1}, "rows and columns: got 1 and 3"),
        ({"held_out": 1.0}, "held_out: got 1.0"),
        ({"augment": ["flip"]}, "augment: got 'flip'"),
        ({"augment": ["mixup:0.2"]}, "augment: got 'mixup'"),
        ({"num_samples": -3}, "num_samples, val_size and test_size: got -3"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenes(**settings)


def test_no_more_scenes_than_can_be_told_apart() -> None:
    with pytest.raises(ValueError, match=r"test_size: got 997, but only \d+ scenes with distinct"):
        digits(test_size=997, held_out=0.01)
