"""Scenes composed of real images of things, with sentences that say what is where."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphformer.data.io.cache import data_root
from graphformer.data.vision.base import ImageSamples
from graphformer.data.vision.captions import CaptionedImages, ImagesAndCaptions
from graphformer.data.vision.datasets import read_digits
from graphformer.data.vision.idx import FILES, download_idx, find_idx_folder, read_idx

CELL = 16  # pixels of a side
COUNTS = ("a", "two", "three")
RELATIONS = ("above", "left of")
COLOURS = {
    "red": (1.0, 0.2, 0.2),
    "green": (0.2, 1.0, 0.2),
    "blue": (0.25, 0.35, 1.0),
    "yellow": (1.0, 1.0, 0.2),
}
# Without coats and shirts, which people too take for pullovers and T-shirts at this size.
CLOTHES = {
    0: "shirt",
    1: "trouser",
    2: "pullover",
    3: "dress",
    5: "sandal",
    7: "sneaker",
    8: "bag",
    9: "boot",
}
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = dict(enumerate(_NUMBERS))


@dataclass(frozen=True)
class Group:
    """Some things of one kind and colour, and the cells (row, column) where they are."""

    kind: int
    colour: str
    cells: tuple[tuple[int, int], ...]

    def words(self, names: dict[int, str]) -> str:
        """What is said of it: "two red boots"."""
        name, several = names[self.kind], len(self.cells) > 1
        ending = ("es" if name.endswith(("s", "x", "o")) else "s") if several else ""
        return f"{COUNTS[len(self.cells) - 1]} {self.colour} {name}{ending}"


@dataclass(frozen=True)
class Scene:
    """One or two groups of things, and how the first lies to the second."""

    groups: tuple[Group, ...]
    relation: str | None

    def sentence(self, names: dict[int, str]) -> str:
        """What is said of it: "a red boot above two blue shirts"."""
        words = [group.words(names) for group in self.groups]
        return words[0] if self.relation is None else f"{words[0]} {self.relation} {words[1]}"


class Scenes(CaptionedImages):
    """Scenes of clothes or digits, such as "a red boot above two blue shirts".

    The test split's scenes put kinds of things together that training never puts together in that
    way (a share `held_out` of all pairs of kinds with a relation), from images that training never
    shows, and no two of them are described alike. What is above is never left or right as well. A
    fifth of the training scenes shows but one group of things. A scene depends on the seed, its
    split and its number alone.

    Args:
        source: "clothes" (Fashion-MNIST, as `IdxImages` finds it) or "digits" (scikit-learn's).
        num_samples: scenes to train on.
        val_size, test_size: scenes for validation and testing.
        rows, columns: cells of 16 x 16 pixels.
        held_out: share of the combinations that only the test shows.
        patch_size, batch_size, augment, seed: of `CaptionedImages`; but no "flip", which would
            turn left round.
        root: the data root.

    Raises:
        MissingDataError: the clothes are not there and cannot be fetched.
        ValueError: fewer than 2 rows or columns, a share that leaves nothing to train or test, or
            "flip".
    """

    def __init__(
        self,
        source: Literal["clothes", "digits"] = "clothes",
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
            raise ValueError("augment 'flip' would turn left round in scenes: leave it out.")
        if min(num_samples, val_size, test_size) < 1:
            raise ValueError(
                f"num_samples, val_size and test_size are {num_samples}, {val_size} and "
                f"{test_size}: expected 1 or more each."
            )
        if source not in ("clothes", "digits"):
            raise ValueError(f"source is {source!r}: expected 'clothes' or 'digits'.")
        if min(rows, columns) < 2:
            raise ValueError(f"rows and columns are {rows} and {columns}: expected 2 or more.")
        self.save_hyperparameters(logger=False)
        self.source, self.root = source, root
        self.sizes = {"train": num_samples, "val": val_size, "test": test_size}
        self.grid = (rows, columns)
        self.names = CLOTHES if source == "clothes" else DIGITS
        pairs = itertools.permutations(self.names, 2)
        combinations = [(a, relation, b) for a, b in pairs for relation in RELATIONS]
        count = round(held_out * len(combinations))
        if not 0 < count < len(combinations):
            raise ValueError(
                f"held_out is {held_out}, which leaves no combination to train or to test on."
            )
        order = np.random.default_rng((seed, 7)).permutation(len(combinations))
        shuffled = [combinations[i] for i in order]
        self.combinations = {
            "train": shuffled[count:],
            "val": shuffled[count:],
            "test": shuffled[:count],
        }
        self.scenes: dict[str, list[Scene]] = {}

    def prepare_data(self) -> None:
        """Fetch the files that are missing."""
        if self.source == "clothes":
            folder = find_idx_folder(data_root(self.root), "FashionMNIST")
            download_idx(folder, "FashionMNIST", base_url=None)

    def read(self) -> dict[str, ImagesAndCaptions]:
        """Compose the scenes of all splits."""
        things = self._things()
        splits: dict[str, ImagesAndCaptions] = {}
        for number, split in enumerate(self.sizes):
            own = things["test" if split == "test" else "train"]
            images, self.scenes[split] = self._compose(split, number, own)
            splits[split] = (images, [scene.sentence(self.names) for scene in self.scenes[split]])
        return splits

    def zero_shot_set(self, count: int = 1000) -> tuple[ImageSamples, list[list[str]]]:
        """Images of one thing each, labelled by kind; and what may be said of each kind."""
        things, images, labels = self._things()["test"], [], []
        kinds = list(self.names)
        for i in range(count):
            generator = np.random.default_rng((self.seed, 3, i))
            scene = self._single(generator, most=1)
            images.append(paint(scene, things, self.grid, generator))
            labels.append(kinds.index(scene.groups[0].kind))
        pixels = torch.from_numpy(np.stack(images))
        said = [
            [Group(kind, colour, ((0, 0),)).words(self.names) for colour in COLOURS]
            for kind in kinds
        ]
        return ImageSamples(
            pixels, torch.tensor(labels), self.patch_size, self.mean, self.std
        ), said

    def _compose(
        self, split: str, number: int, things: dict[int, np.ndarray]
    ) -> tuple[Tensor, list[Scene]]:
        images: list[np.ndarray] = []
        scenes: list[Scene] = []
        known: set[str] = set()
        for i in itertools.count():
            if len(scenes) == self.sizes[split] or i == 20 * self.sizes[split]:
                break
            generator = np.random.default_rng((self.seed, number, i))
            alone = split != "test" and generator.random() < 0.2
            scene = self._single(generator) if alone else self._pair(generator, split)
            said = scene.sentence(self.names)
            if split == "test" and said in known:
                continue
            known.add(said)
            scenes.append(scene)
            images.append(paint(scene, things, self.grid, generator))
        if len(scenes) < self.sizes[split]:
            raise ValueError(
                f"{split}_size is {self.sizes[split]}, but only {len(scenes)} scenes that differ "
                "in what is said of them were found: choose fewer, or a larger held_out."
            )
        return torch.from_numpy(np.stack(images)), scenes

    def _single(self, generator: np.random.Generator, most: int = len(COUNTS)) -> Scene:
        cells = [(r, c) for r in range(self.grid[0]) for c in range(self.grid[1])]
        count = 1 + generator.integers(most)
        chosen = generator.permutation(len(cells))[:count]
        kind = list(self.names)[generator.integers(len(self.names))]
        return Scene((_group(kind, [cells[i] for i in chosen], generator),), None)

    def _pair(self, generator: np.random.Generator, split: str) -> Scene:
        """Two groups, each in a row of its own; or in a column, for "left of"."""
        allowed = self.combinations[split]
        first, relation, second = allowed[generator.integers(len(allowed))]
        while True:
            groups = self._lines(generator, (first, second), turned=relation == "left of")
            if not _apart(*groups, axis=1 if relation == "above" else 0):
                return Scene(groups, relation)

    def _lines(
        self, generator: np.random.Generator, kinds: tuple[int, int], *, turned: bool
    ) -> tuple[Group, Group]:
        """Groups of these kinds in two rows, the first above; turned, in two columns."""
        rows, columns = self.grid[::-1] if turned else self.grid
        lines = np.sort(generator.permutation(rows)[:2])

        def group(kind: int, line: int) -> Group:
            count = 1 + generator.integers(min(len(COUNTS), columns))
            places = generator.permutation(columns)[:count]
            cells = [(int(line), int(place)) for place in places]
            return _group(kind, [(r, c) for c, r in cells] if turned else cells, generator)

        return group(kinds[0], lines[0]), group(kinds[1], lines[1])

    def _things(self) -> dict[str, dict[int, np.ndarray]]:
        """Pictures of each kind, [n, 14, 14] or [n, 16, 16] from 0 to 1, to train and test with."""
        if self.source == "digits":
            images, labels = (a.numpy() for a in read_digits())
            large = np.kron(images / 16, np.ones((1, 2, 2))).astype(np.float32)
            order = np.random.default_rng((self.seed, 1)).permutation(len(labels))
            splits = {"test": order[:360], "train": order[360:]}
            return {p: _by_kind(large[i], labels[i], self.names) for p, i in splits.items()}
        folder = find_idx_folder(data_root(self.root), "FashionMNIST")
        things = {}
        for split, (images_file, labels_file) in FILES.items():
            pixels = read_idx(folder / images_file).astype(np.float32) / 255
            small = pixels.reshape(-1, 14, 2, 14, 2).mean((2, 4))
            things[split] = _by_kind(small, read_idx(folder / labels_file), self.names)
        return things


def paint(
    scene: Scene,
    things: dict[int, np.ndarray],
    grid: tuple[int, int],
    generator: np.random.Generator,
) -> np.ndarray:
    """A scene as bytes [3, rows * 16, columns * 16], on black; which thing is shown is drawn."""
    canvas = np.zeros((3, grid[0] * CELL, grid[1] * CELL), np.float32)
    for group in scene.groups:
        pictures = things[group.kind]
        tint = np.array(COLOURS[group.colour], np.float32)[:, None, None]
        for row, column in group.cells:
            picture = pictures[generator.integers(len(pictures))]
            room = CELL - picture.shape[0]
            y = row * CELL + generator.integers(room + 1)
            x = column * CELL + generator.integers(room + 1)
            canvas[:, y : y + len(picture), x : x + len(picture)] = tint * picture
    return np.round(255 * canvas).astype(np.uint8)


def _apart(first: Group, second: Group, axis: int) -> bool:
    """Whether one group is all before the other in this axis too, which might be said as well."""
    a, b = ([cell[axis] for cell in group.cells] for group in (first, second))
    return max(a) < min(b) or max(b) < min(a)


def _group(kind: int, cells: list[tuple[int, int]], generator: np.random.Generator) -> Group:
    colour = list(COLOURS)[generator.integers(len(COLOURS))]
    return Group(kind, colour, tuple(sorted(cells)))


def _by_kind(
    images: np.ndarray, labels: np.ndarray, names: dict[int, str]
) -> dict[int, np.ndarray]:
    return {kind: images[labels == kind] for kind in names}
