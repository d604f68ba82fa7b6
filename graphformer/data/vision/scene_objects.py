"""Objects of composed scenes: groups of one kind and colour, their names and their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphformer.data.io.cache import data_root
from graphformer.data.vision.datasets import read_digits
from graphformer.data.vision.idx import FILES, download_idx, find_idx_folder, read_idx_split

CELL = 16
"""Side of a cell in pixels."""
COUNTS = ("a", "two", "three")
RELATIONS = ("above", "left of")
COLOURS = {
    "red": (1.0, 0.2, 0.2),
    "green": (0.2, 1.0, 0.2),
    "blue": (0.25, 0.35, 1.0),
    "yellow": (1.0, 1.0, 0.2),
}
# Without coats and shirts, which people also confuse with pullovers and T-shirts at this size.
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

Source = Literal["clothes", "digits"]
"""Images of objects: Fashion-MNIST's, or the digits of scikit-learn."""
ObjectImages = dict[int, np.ndarray]
"""Images of each kind of object, [n, side, side] with values from 0 to 1."""
Cell = tuple[int, int]
"""Row and column."""


@dataclass(frozen=True)
class Group:
    """Objects of one kind and colour, and their cells."""

    kind: int
    colour: str
    cells: tuple[Cell, ...]

    def phrase(self, names: dict[int, str]) -> str:
        """Return its description, such as "two red boots".

        Args:
            names: of the kinds.
        """
        name = names[self.kind]
        name = plural(name) if len(self.cells) > 1 else name
        return f"{COUNTS[len(self.cells) - 1]} {self.colour} {name}"


@dataclass(frozen=True)
class Scene:
    """One or two groups of objects, and the relation of the first to the second."""

    groups: tuple[Group, ...]
    relation: str | None

    def caption(self, names: dict[int, str]) -> str:
        """Return its description, such as "a red boot above two blue shirts".

        Args:
            names: of the kinds.
        """
        phrases = [group.phrase(names) for group in self.groups]
        return phrases[0] if self.relation is None else f"{phrases[0]} {self.relation} {phrases[1]}"


def plural(name: str) -> str:
    """Return the plural of a kind's name, such as "dresses"."""
    return name + ("es" if name.endswith(("s", "x", "ro")) else "s")


def object_names(source: Source) -> dict[int, str]:
    """Return the name of each kind of object.

    Raises:
        ValueError: when the source is unknown.
    """
    if source not in ("clothes", "digits"):
        raise ValueError(f"source: got {source!r}, expected 'clothes' or 'digits'")
    return CLOTHES if source == "clothes" else DIGITS


def draw_group(kind: int, cells: list[Cell], generator: np.random.Generator) -> Group:
    """Return a group of a random colour."""
    colour = list(COLOURS)[generator.integers(len(COLOURS))]
    return Group(kind, colour, tuple(sorted(cells)))


def paint(
    scene: Scene,
    objects: ObjectImages,
    grid: tuple[int, int],
    generator: np.random.Generator,
) -> np.ndarray:
    """Return a scene as bytes [3, rows * 16, columns * 16] on black, with random objects.

    Args:
        scene: the groups.
        objects: of each kind.
        grid: number of rows and columns of cells.
        generator: draws each object's image and its position in the cell.
    """
    canvas = np.zeros((3, grid[0] * CELL, grid[1] * CELL), np.float32)
    for group in scene.groups:
        images = objects[group.kind]
        tint = np.array(COLOURS[group.colour], np.float32)[:, None, None]
        for row, column in group.cells:
            image = images[generator.integers(len(images))]
            margin = CELL - image.shape[0]
            y = row * CELL + generator.integers(margin + 1)
            x = column * CELL + generator.integers(margin + 1)
            canvas[:, y : y + len(image), x : x + len(image)] = tint * image
    return np.round(255 * canvas).astype(np.uint8)


def download_objects(source: Source, root: str | None) -> None:
    """Download the files of the clothes that are missing; digits need none."""
    if source == "clothes":
        folder = find_idx_folder(data_root(root), "FashionMNIST")
        download_idx(folder, "FashionMNIST", base_url=None)


def read_objects(source: Source, root: str | None, *, seed: int) -> dict[str, ObjectImages]:
    """Return the objects of "train" and of "test": digits of 16 x 16 pixels, clothes of 14 x 14.

    Args:
        source: "clothes" or "digits".
        root: the data root.
        seed: of the split of the digits.

    Raises:
        MissingDataError: when the clothes are missing.
    """
    names = object_names(source)
    if source == "digits":
        images, labels = (a.numpy() for a in read_digits())
        large = np.kron(images / 16, np.ones((1, 2, 2))).astype(np.float32)
        order = np.random.default_rng((seed, 1)).permutation(len(labels))
        index = {"test": order[:360], "train": order[360:]}
        return {split: _by_kind(large[i], labels[i], names) for split, i in index.items()}
    folder = find_idx_folder(data_root(root), "FashionMNIST")
    objects = {}
    for split in FILES:
        pixels, labels = read_idx_split(folder, split)
        scaled = pixels.astype(np.float32) / 255
        small = scaled.reshape(-1, 14, 2, 14, 2).mean((2, 4))  # 28 x 28, halved
        objects[split] = _by_kind(small, labels, names)
    return objects


def _by_kind(images: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> ObjectImages:
    return {kind: images[labels == kind] for kind in names}
