"""Balanced questions about composed scenes: every answer is as frequent for every question."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphformer.data.vision.scene_objects import COLOURS, Cell, Group, Scene, plural

QUESTION_TYPES = ("count", "colour", "kind", "relation")
Axis = Literal["left of", "above"]
AXES: tuple[Axis, ...] = ("left of", "above")
OPPOSITE = {"left of": "right of", "above": "below"}
NUMBERS = ("one", "two", "three")
LINES = 3
"""Number of rows, of columns, and of groups in a scene."""


@dataclass(frozen=True)
class SceneQuestion:
    """A question about one group of a scene.

    Attributes:
        type: one of `QUESTION_TYPES`.
        text: such as "how many sixes ?".
        answer: one word.
    """

    type: str
    text: str
    answer: str


@dataclass(frozen=True)
class Item:
    """What a question and its answer require of the scene; the rest is drawn.

    Attributes:
        question: with its answer.
        kind: that is asked about, or the answer.
        count: number of its objects; None if any.
        colour: of its objects; None if any.
        neighbour: axis of the lines, whether the other kind is before the kind, and the offset of
            both in the order of `Combinations`; None if any.
    """

    question: SceneQuestion
    kind: int
    count: int | None = None
    colour: str | None = None
    neighbour: tuple[Axis, bool, int] | None = None


class Combinations:
    """Which kinds may be next to one another in the scenes of a split.

    Each axis has a random cyclic order of the K kinds. A kind whose place is p is before one whose
    place is p - o (mod K) in the test split if o is 1 to `held_out`, in the other splits if o is
    larger. Every kind so has equally many neighbours on each side in every split.

    Args:
        names: of the kinds.
        held_out: number of neighbours of each kind on each side that only the test split has.
        seed: of the orders.

    Raises:
        ValueError: when `held_out` is below 1, or leaves the other splits less than 2 neighbours.
    """

    def __init__(self, names: dict[int, str], held_out: int, seed: int) -> None:
        if not 1 <= held_out < len(names) / 2 - 1:
            raise ValueError(
                f"held_out_neighbors: got {held_out}, expected 1 up to "
                f"{math.ceil(len(names) / 2) - 2} of the {len(names) - 1} other kinds"
            )
        self.names, self.held_out = names, held_out
        generator = np.random.default_rng((seed, 7))
        kinds = np.array(list(names))
        self.orders = {axis: generator.permutation(kinds).tolist() for axis in AXES}

    def offsets(self, split: str) -> range:
        """Return the offsets of two neighbours in a split."""
        if split == "test":
            return range(1, self.held_out + 1)
        return range(self.held_out + 1, len(self.names))

    def neighbour(self, kind: int, axis: Axis, offset: int) -> int:
        """Return the kind that a kind is before, at an offset; after it, at a negative offset."""
        order = self.orders[axis]
        return int(order[(order.index(kind) - offset) % len(order)])

    def items(self, split: str) -> dict[str, list[Item]]:
        """Return all questions of a split with each of their answers, by type."""
        items: dict[str, list[Item]] = {name: [] for name in QUESTION_TYPES}
        for kind, name in self.names.items():
            many = plural(name)
            for count, word in enumerate(NUMBERS, 1):
                question = SceneQuestion("count", f"how many {many} ?", word)
                items["count"].append(Item(question, kind, count=count))
            for colour in COLOURS:
                question = SceneQuestion("colour", f"which colour are the {many} ?", colour)
                items["colour"].append(Item(question, kind, colour=colour))
                question = SceneQuestion("kind", f"what is {colour} ?", name)
                items["kind"].append(Item(question, kind, colour=colour))
            for axis, is_before in itertools.product(AXES, (True, False)):
                relation = axis if is_before else OPPOSITE[axis]
                for offset in self.offsets(split):
                    other = self.neighbour(kind, axis, -offset if is_before else offset)
                    text = f"what is directly {relation} the {many} ?"
                    question = SceneQuestion("relation", text, self.names[other])
                    items["relation"].append(
                        Item(question, kind, neighbour=(axis, is_before, offset))
                    )
        return items

    def scene(self, item: Item, split: str, generator: np.random.Generator) -> Scene:
        """Return a random scene about which an item's question has its answer.

        Three groups of different kinds fill three columns or three rows. A colour that is asked
        about is that of one group only.
        """
        size, offsets = len(self.names), list(self.offsets(split))
        if item.neighbour is None:
            axis, line = AXES[generator.integers(2)], int(generator.integers(LINES))
            first = int(generator.choice(offsets))
            second = int(generator.choice([o for o in offsets if (first + o) % size]))
        else:
            axis, is_before, offset = item.neighbour
            pair = int(generator.integers(2))  # the first and second line, or second and third
            line = pair + 1 if is_before else pair
            other = int(generator.choice([o for o in offsets if (offset + o) % size]))
            first, second = (offset, other) if pair == 0 else (other, offset)
        starts = (0, first, first + second)  # offsets of the lines from the first one
        kinds = [self.neighbour(item.kind, axis, start - starts[line]) for start in starts]
        is_unique = item.question.type == "kind"
        choices = [c for c in COLOURS if not (is_unique and c == item.colour)]
        colours = [choices[i] for i in generator.integers(len(choices), size=LINES)]
        colours[line] = item.colour or colours[line]
        counts = (1 + generator.integers(LINES, size=LINES)).tolist()
        counts[line] = item.count or counts[line]
        groups = [
            Group(kind, colours[number], _cells(number, counts[number], axis, generator))
            for number, kind in enumerate(kinds)
        ]
        return Scene(tuple(groups), axis)


def _cells(line: int, count: int, axis: Axis, generator: np.random.Generator) -> tuple[Cell, ...]:
    """Return random cells of a column ("left of") or of a row."""
    places = sorted(generator.permutation(LINES)[:count].tolist())
    return tuple((p, line) if axis == "left of" else (line, p) for p in places)


def balanced_size(items: dict[str, list[Item]]) -> int:
    """Return the least number of questions in which each item is as frequent as others of its type.

    All types are as frequent.
    """
    return len(items) * math.lcm(*map(len, items.values()))
