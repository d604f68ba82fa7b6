"""Videos of moving objects: what they show, their labels and captions, and what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphformer.data import MovingObjects, MovingObjectsCaptions
from graphformer.data.video.moving import MAX_SPEED, MOTIONS, Movement, film
from graphformer.data.vision.scene_objects import DIGITS

SMALL = {"num_samples": 31, "val_size": 5, "test_size": 11, "num_frames": 4, "batch_size": 7}
BLOCK = {6: np.ones((1, 16, 16), np.float32)}


@pytest.mark.parametrize("motion", MOTIONS)
def test_an_object_moves_by_its_speed_and_reenters(motion: str) -> None:
    generator = np.random.default_rng(3)
    video = film(Movement(6, "red", motion), BLOCK, num_frames=5, side=23, generator=generator)
    assert video.shape == (3, 5, 23, 23)
    assert video[0].max() == 255
    assert video[1].max() == round(0.2 * 255)
    down, right = MOTIONS[motion]
    speeds = [
        speed
        for speed in range(1, MAX_SPEED + 1)
        if all(
            np.array_equal(
                np.roll(video[:, t], (speed * down, speed * right), axis=(1, 2)), video[:, t + 1]
            )
            for t in range(4)
        )
    ]
    assert len(speeds) == (1 if down or right else MAX_SPEED)
    assert (video[0] > 0).sum() == 5 * 16 * 16, "no pixel is lost at the borders"


def test_a_single_frame_is_the_same_for_all_motions() -> None:
    """With one seed the start and the image are those of all motions; so are their frames."""
    first = [
        film(
            Movement(6, "red", motion),
            BLOCK,
            num_frames=2,
            side=23,
            generator=np.random.default_rng(5),
        )[:, 0]
        for motion in MOTIONS
    ]
    assert all(np.array_equal(frame, first[0]) for frame in first)


def test_labels_are_motions_or_objects() -> None:
    data = MovingObjects(**SMALL)
    data.setup()
    assert data.num_classes == len(MOTIONS)
    assert (data.channels, data.num_features) == (3, 3 * 2 * 8 * 8)
    batch = next(iter(data.batches("train")))
    assert batch.shapes == ((2, 4, 4),) * 7
    videos, movements = data.films()["train"]
    assert torch.equal(videos, data.splits["train"][0])
    assert [data.classes[i] for i in data.splits["train"][1]] == [m.motion for m in movements]
    objects = MovingObjects(label="object", **SMALL)
    objects.setup()
    assert torch.equal(objects.splits["train"][0], videos)
    names = [objects.classes[i] for i in objects.splits["train"][1]]
    assert names == [DIGITS[m.kind] for m in movements]


def test_captions_and_held_out_pairs() -> None:
    assert Movement(6, "red", "moves up and left").caption(DIGITS) == "a red six moves up and left"
    data = MovingObjectsCaptions(**SMALL)
    data.setup()
    batch = next(iter(data.batches("val")))
    assert batch.source_shapes == ((2, 4, 4),) * 5
    assert batch.source_pos.shape == (160, 3)
    text = data.need_tokenizer().decode(batch.y[: batch.lengths[0] - 1].tolist())
    assert text == data.splits["val"][1][0]
    train, test = (
        {(m.kind, m.motion) for m in data.films()[split][1]} for split in ("train", "test")
    )
    assert not train & test
    assert len(data.pairs["test"]) == round(0.15 * 90)


def test_videos_depend_on_the_seed_and_their_index() -> None:
    one, more = MovingObjects(**SMALL), MovingObjects(**{**SMALL, "num_samples": 37})
    one.setup()
    more.setup()
    assert torch.equal(one.splits["train"][0], more.splits["train"][0][:31])
    other = MovingObjects(**SMALL, seed=1)
    other.setup()
    assert not torch.equal(one.splits["train"][0], other.splits["train"][0])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"source": "cars"}, "source: got 'cars'"),
        ({"label": "colour"}, "label: got 'colour'"),
        ({"num_frames": 0}, "num_frames: got 0"),
        ({"test_size": 0}, "test: got 0"),
        ({"side": 8}, "side: got 8"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MovingObjects(**settings)


def test_patches_must_divide_the_frames() -> None:
    data = MovingObjects(**SMALL, patch_frames=3)
    data.setup()
    with pytest.raises(ValueError, match="patch_frames: got 3, expected a divisor of the 4 frames"):
        data.batches("train")
    with pytest.raises(ValueError, match="held_out: got 1"):
        MovingObjectsCaptions(held_out=1.0)
