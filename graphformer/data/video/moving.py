"""Videos of an object that moves: its motion as the class, or a caption of object and motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphformer.data.base import DataModule
from graphformer.data.video.base import ScaledVideos
from graphformer.data.vision.base import ImagesAndLabels, PatchImages
from graphformer.data.vision.captions import CaptionedImages, ImagesAndCaptions
from graphformer.data.vision.scene_objects import (
    COLOURS,
    ObjectImages,
    Source,
    download_objects,
    object_names,
    read_objects,
)

MOTIONS = {
    "stays": (0, 0),
    "moves left": (0, -1),
    "moves right": (0, 1),
    "moves up": (-1, 0),
    "moves down": (1, 0),
    "moves up and left": (-1, -1),
    "moves up and right": (-1, 1),
    "moves down and left": (1, -1),
    "moves down and right": (1, 1),
}
"""Rows and columns of each motion for a speed of one pixel a frame."""
MAX_SPEED = 3
"""Pixels a frame."""
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Movement:
    """An object and what it does; the motion is a key of `MOTIONS`."""

    kind: int
    colour: str
    motion: str

    def caption(self, names: dict[int, str]) -> str:
        """Return its description, such as "a red six moves up and left".

        Args:
            names: of the kinds.
        """
        return f"a {self.colour} {names[self.kind]} {self.motion}"


def film(
    movement: Movement,
    objects: ObjectImages,
    *,
    num_frames: int,
    side: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return a video of bytes [3, num_frames, side, side] on black.

    The object starts anywhere with a speed of 1 to `MAX_SPEED` pixels a frame along each axis of
    its motion, and re-enters at the opposite side. So each frame alone is equally likely for all
    motions.

    Args:
        movement: the object and its motion.
        objects: images of each kind.
        num_frames: number of frames.
        side: height and width.
        generator: draws the image, the start and the speed.
    """
    images = objects[movement.kind]
    image = images[generator.integers(len(images))]
    tint = np.array(COLOURS[movement.colour], np.float32)[:, None, None]
    y, x = generator.integers(side, size=2)
    speed = generator.integers(1, MAX_SPEED + 1)
    down, right = MOTIONS[movement.motion]
    video = np.zeros((3, num_frames, side, side), np.float32)
    cells = np.arange(len(image))
    for time in range(num_frames):
        rows = (y + time * speed * down + cells) % side
        columns = (x + time * speed * right + cells) % side
        video[:, time, rows[:, None], columns] = tint * image
    return np.round(255 * video).astype(np.uint8)


class _Films(DataModule):
    """Objects and films of all splits; the base of the data modules below."""

    names: dict[int, str]
    seed: int

    def set_films(
        self,
        source: Source,
        sizes: dict[str, int],
        *,
        held_out: float,
        num_frames: int,
        side: int,
        root: str | None,
    ) -> None:
        """Check and keep the settings of the films.

        Raises:
            ValueError: when a setting is out of range.
        """
        for name, count in {**sizes, "num_frames": num_frames}.items():
            if count < 1:
                raise ValueError(f"{name}: got {count}, expected 1 or more")
        if side < 16:
            raise ValueError(f"side: got {side}, expected 16 or more pixels, the side of an object")
        self.names = object_names(source)
        self.source, self.root, self.film_sizes = source, root, sizes
        self.num_frames, self.side = num_frames, side
        self.pairs = self._split_pairs(held_out)

    def _split_pairs(self, held_out: float) -> dict[str, list[tuple[int, str]]]:
        """The pairs (kind, motion) of each split; those held out are of "test" only."""
        pairs = [(kind, motion) for kind in self.names for motion in MOTIONS]
        count = round(held_out * len(pairs))
        if not 0 <= count < len(pairs):
            raise ValueError(
                f"held_out: got {held_out}, expected a share of the {len(pairs)} pairs of kind and "
                "motion that leaves some to train on"
            )
        order = np.random.default_rng((self.seed, 7)).permutation(len(pairs))
        shuffled = [pairs[i] for i in order]
        rest = shuffled[count:]
        return {"train": rest, "val": rest, "test": shuffled[:count] or rest}

    def prepare_data(self) -> None:
        """Download the files of the clothes that are missing."""
        download_objects(self.source, self.root)

    def films(self) -> dict[str, tuple[Tensor, list[Movement]]]:
        """Return videos, bytes [B, 3, frames, side, side], and what they show, by split."""
        objects = read_objects(self.source, self.root, seed=self.seed)
        found: dict[str, tuple[Tensor, list[Movement]]] = {}
        for split, count in self.film_sizes.items():
            of_split = objects["test" if split == "test" else "train"]
            videos, movements = [], []
            for i in range(count):
                generator = np.random.default_rng((self.seed, SPLIT_NUMBERS[split], i))
                kind, motion = self.pairs[split][generator.integers(len(self.pairs[split]))]
                colour = list(COLOURS)[generator.integers(len(COLOURS))]
                movements.append(Movement(kind, colour, motion))
                videos.append(
                    film(
                        movements[-1],
                        of_split,
                        num_frames=self.num_frames,
                        side=self.side,
                        generator=generator,
                    )
                )
            found[split] = torch.from_numpy(np.stack(videos)), movements
        return found


class MovingObjects(_Films, ScaledVideos, PatchImages):
    """Videos of one object in motion; the class is its motion, or its kind.

    No frame alone tells the motion, see `film`. Test videos show images of objects that do not
    occur in training. A video depends on the seed, its split and its index only.

    Args:
        source: "digits" (scikit-learn's) or "clothes" (Fashion-MNIST, as `IdxImages` finds it).
        num_samples: number of training videos.
        label: the class: "motion", one of `MOTIONS`, or "object".
        val_size, test_size: number of validation and of test videos.
        num_frames: of a video.
        side: height and width of a frame in pixels.
        patch_size: side of a patch in pixels.
        patch_frames: frames of a patch.
        batch_size: videos per batch.
        root: the data root.
        seed: of the videos and their order.

    Attributes:
        classes: names of the classes.

    Raises:
        MissingDataError: when the clothes are missing and cannot be downloaded.
        ValueError: when a number is out of range, or a patch does not divide the videos.
    """

    def __init__(
        self,
        source: Source = "digits",
        num_samples: int = 8000,
        *,
        label: Literal["motion", "object"] = "motion",
        val_size: int = 500,
        test_size: int = 1000,
        num_frames: int = 8,
        side: int = 32,
        patch_size: int = 8,
        patch_frames: int = 2,
        batch_size: int = 64,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(patch_size=patch_size, batch_size=batch_size, val_size=val_size, seed=seed)
        self.save_hyperparameters(logger=False)
        sizes = {"train": num_samples, "val": val_size, "test": test_size}
        self.set_films(source, sizes, held_out=0.0, num_frames=num_frames, side=side, root=root)
        if label not in ("motion", "object"):
            raise ValueError(f"label: got {label!r}, expected 'motion' or 'object'")
        self.label, self.patch_frames = label, patch_frames
        self.classes = list(MOTIONS) if label == "motion" else list(self.names.values())

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the videos and labels of all splits."""
        kinds, motions = list(self.names), list(MOTIONS)
        splits: dict[str, ImagesAndLabels] = {}
        for split, (videos, movements) in self.films().items():
            numbers = [
                motions.index(m.motion) if self.label == "motion" else kinds.index(m.kind)
                for m in movements
            ]
            splits[split] = (videos, torch.tensor(numbers))
        return splits

    def setup(self, stage: str | None = None) -> None:
        """Generate the videos and compute the statistics, once."""
        super().setup(stage)
        self.num_classes = len(self.classes)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the class names, for a checkpoint."""
        return {**super().state_dict(), "classes": list(self.classes)}


class MovingObjectsCaptions(_Films, ScaledVideos, CaptionedImages):
    """Videos of one object in motion, with captions such as "a red six moves up and left".

    Test videos use pairs of kind and motion, and images of objects, that do not occur in training.

    Args:
        source, num_samples, val_size, test_size, num_frames, side, patch_size, patch_frames: as of
            `MovingObjects`.
        batch_size, root, seed: as of `MovingObjects`.
        held_out: share of the pairs (kind, motion) that occur in the test split only.

    Raises:
        MissingDataError: when the clothes are missing and cannot be downloaded.
        ValueError: when a number is out of range, or a patch does not divide the videos.
    """

    def __init__(
        self,
        source: Source = "digits",
        num_samples: int = 8000,
        *,
        val_size: int = 500,
        test_size: int = 1000,
        held_out: float = 0.15,
        num_frames: int = 8,
        side: int = 32,
        patch_size: int = 8,
        patch_frames: int = 2,
        batch_size: int = 64,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            augment=(),
            vocabulary="wordpiece",
            max_length=32,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        sizes = {"train": num_samples, "val": val_size, "test": test_size}
        self.set_films(
            source, sizes, held_out=held_out, num_frames=num_frames, side=side, root=root
        )
        self.patch_frames = patch_frames

    def read(self) -> dict[str, ImagesAndCaptions]:
        """Return the videos and captions of all splits."""
        return {
            split: (videos, [movement.caption(self.names) for movement in movements])
            for split, (videos, movements) in self.films().items()
        }
