"""Scenes composed of images of objects, with captions that name the objects and their relation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.data.vision.captions import CaptionedImages, ImagesAndCaptions
from graphformer.data.vision.samples import ImageSamples
from graphformer.data.vision.scene_objects import (
    COLOURS,
    COUNTS,
    RELATIONS,
    Group,
    ObjectImages,
    Scene,
    Source,
    download_objects,
    draw_group,
    object_names,
    paint,
    read_objects,
)


class Scenes(CaptionedImages):
    """Scenes of clothes or digits, with captions such as "a red boot above two blue shirts".

    Test scenes use combinations (kind, relation, kind) that do not occur in training, and images
    of objects that do not occur in training; their captions are distinct. Objects that are above
    others are never left or right of all of them as well. A fifth of the training scenes has one
    group only. A scene depends on the seed, its split and its index only.

    Args:
        source: "clothes" (Fashion-MNIST, as `IdxImages` finds it) or "digits" (scikit-learn's).
        num_samples: number of training scenes.
        val_size, test_size: number of validation and of test scenes.
        rows, columns: number of cells of 16 x 16 pixels.
        held_out: share of the combinations that occur in the test split only.
        patch_size, batch_size, augment, seed: of `CaptionedImages`; not "flip", which would
            exchange left and right.
        root: the data root.

    Raises:
        MissingDataError: when the clothes are missing and cannot be downloaded.
        ValueError: when rows or columns is below 2, held_out leaves no combination to train or to
            test on, or augment has "flip".
    """

    def __init__(
        self,
        source: Source = "clothes",
        num_samples: int = 20_000,
        *,
        val_size: int = 500,
        test_size: int = 1000,
        rows: int = 3,
        columns: int = 3,
        held_out: float = 0.15,
        patch_size: int = 8,
        batch_size: int = 128,
        augment: Sequence[str] = (),
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            augment=augment,
            vocabulary="wordpiece",
            max_length=32,
            seed=seed,
        )
        if "flip" in augment:
            raise ValueError(
                "augment: got 'flip', expected transforms that keep left and right; leave it out"
            )
        if min(num_samples, val_size, test_size) < 1:
            raise ValueError(
                f"num_samples, val_size and test_size: got {num_samples}, {val_size} and "
                f"{test_size}, expected 1 or more each"
            )
        if min(rows, columns) < 2:
            raise ValueError(f"rows and columns: got {rows} and {columns}, expected 2 or more each")
        self.save_hyperparameters(logger=False)
        self.source, self.root = source, root
        self.sizes = {"train": num_samples, "val": val_size, "test": test_size}
        self.grid = (rows, columns)
        self.names = object_names(source)
        self.combinations = self._split_combinations(held_out)
        self.scenes: dict[str, list[Scene]] = {}

    def _split_combinations(self, held_out: float) -> dict[str, list[tuple[int, str, int]]]:
        """The combinations (kind, relation, kind) of each split."""
        pairs = itertools.permutations(self.names, 2)
        combinations = [(a, relation, b) for a, b in pairs for relation in RELATIONS]
        count = round(held_out * len(combinations))
        if not 0 < count < len(combinations):
            raise ValueError(
                f"held_out: got {held_out}, expected a share of the {len(combinations)} "
                "combinations that leaves some to train and some to test on"
            )
        order = np.random.default_rng((self.seed, 7)).permutation(len(combinations))
        shuffled = [combinations[i] for i in order]
        return {"train": shuffled[count:], "val": shuffled[count:], "test": shuffled[:count]}

    def prepare_data(self) -> None:
        """Download the files of the clothes that are missing."""
        download_objects(self.source, self.root)

    def read(self) -> dict[str, ImagesAndCaptions]:
        """Compose the scenes of all splits."""
        objects = read_objects(self.source, self.root, seed=self.seed)
        splits: dict[str, ImagesAndCaptions] = {}
        for number, split in enumerate(self.sizes):
            of_split = objects["test" if split == "test" else "train"]
            images, self.scenes[split] = self._compose(split, number, of_split)
            splits[split] = (images, [scene.caption(self.names) for scene in self.scenes[split]])
        return splits

    def zero_shot_set(self, count: int = 1000) -> tuple[ImageSamples, list[list[str]]]:
        """Return images of one object each, labelled by kind, and the prompts of each kind.

        Args:
            count: number of images.
        """
        objects = read_objects(self.source, self.root, seed=self.seed)["test"]
        kinds, images, labels = list(self.names), [], []
        for i in range(count):
            generator = np.random.default_rng((self.seed, 3, i))
            scene = self._one_group(generator, max_count=1)
            images.append(paint(scene, objects, self.grid, generator))
            labels.append(kinds.index(scene.groups[0].kind))
        pixels = torch.from_numpy(np.stack(images))
        prompts = [
            [Group(kind, colour, ((0, 0),)).phrase(self.names) for colour in COLOURS]
            for kind in kinds
        ]
        samples = ImageSamples(pixels, torch.tensor(labels), self.patch_size, self.mean, self.std)
        return samples, prompts

    def _compose(
        self, split: str, number: int, objects: ObjectImages
    ) -> tuple[Tensor, list[Scene]]:
        """The images [B, 3, height, width] and scenes of a split."""
        images: list[np.ndarray] = []
        scenes: list[Scene] = []
        captions: set[str] = set()
        for i in itertools.count():
            if len(scenes) == self.sizes[split] or i == 20 * self.sizes[split]:
                break
            generator = np.random.default_rng((self.seed, number, i))
            is_single = split != "test" and generator.random() < 0.2
            scene = self._one_group(generator) if is_single else self._two_groups(generator, split)
            caption = scene.caption(self.names)
            if split == "test" and caption in captions:
                continue
            captions.add(caption)
            scenes.append(scene)
            images.append(paint(scene, objects, self.grid, generator))
        if len(scenes) < self.sizes[split]:
            raise ValueError(
                f"{split}_size: got {self.sizes[split]}, but only {len(scenes)} scenes with "
                "distinct captions were found; choose a smaller one, or a larger held_out"
            )
        return torch.from_numpy(np.stack(images)), scenes

    def _one_group(self, generator: np.random.Generator, max_count: int = len(COUNTS)) -> Scene:
        cells = [(r, c) for r in range(self.grid[0]) for c in range(self.grid[1])]
        count = 1 + generator.integers(max_count)
        chosen = generator.permutation(len(cells))[:count]
        kind = list(self.names)[generator.integers(len(self.names))]
        return Scene((draw_group(kind, [cells[i] for i in chosen], generator),), None)

    def _two_groups(self, generator: np.random.Generator, split: str) -> Scene:
        """Two groups in a row of its own each; in a column of its own for "left of"."""
        combinations = self.combinations[split]
        first, relation, second = combinations[generator.integers(len(combinations))]
        while True:
            groups = self._in_lines(generator, (first, second), transposed=relation == "left of")
            if not _are_apart(*groups, axis=1 if relation == "above" else 0):
                return Scene(groups, relation)

    def _in_lines(
        self, generator: np.random.Generator, kinds: tuple[int, int], *, transposed: bool
    ) -> tuple[Group, Group]:
        """Groups of these kinds in two rows, the first above; transposed, in two columns."""
        num_lines, line_length = self.grid[::-1] if transposed else self.grid
        lines = np.sort(generator.permutation(num_lines)[:2])

        def group(kind: int, line: int) -> Group:
            count = 1 + generator.integers(min(len(COUNTS), line_length))
            positions = generator.permutation(line_length)[:count]
            cells = [(int(line), int(position)) for position in positions]
            return draw_group(kind, [(r, c) for c, r in cells] if transposed else cells, generator)

        return group(kinds[0], lines[0]), group(kinds[1], lines[1])


def _are_apart(first: Group, second: Group, axis: int) -> bool:
    """Whether one group is before the other in this axis too: another relation would hold."""
    a, b = ([cell[axis] for cell in group.cells] for group in (first, second))
    return max(a) < min(b) or max(b) < min(a)
