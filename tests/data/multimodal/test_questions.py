"""Balanced questions: scenes that have the answer, equal frequencies, and held-out neighbours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graphformer.data.multimodal.questions import (
    AXES,
    NUMBERS,
    QUESTION_TYPES,
    Combinations,
    Item,
    balanced_size,
)
from graphformer.data.vision.scene_objects import CLOTHES, DIGITS, Scene

DIGIT_PAIRS = Combinations(DIGITS, held_out=2, seed=0)
SPLITS = ("train", "val", "test")


def scenes(split: str, of_type: str, repeats: int = 3) -> list[tuple[Item, Scene]]:
    items = DIGIT_PAIRS.items(split)[of_type]
    generator = np.random.default_rng(0)
    return [(i, DIGIT_PAIRS.scene(i, split, generator)) for i in items for _ in range(repeats)]


def lines(scene: Scene) -> list[int]:
    """The column ("left of") or row of each group."""
    axis = 1 if scene.relation == "left of" else 0
    found = [{cell[axis] for cell in group.cells} for group in scene.groups]
    assert all(len(line) == 1 for line in found)
    return [line.pop() for line in found]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("held_out", [1, 3])
def test_a_question_alone_says_nothing_about_its_answer(split: str, held_out: int) -> None:
    items = Combinations(DIGITS, held_out, seed=1).items(split)
    expected = {"count": 3, "colour": 4, "kind": 10}
    expected["relation"] = held_out if split == "test" else 9 - held_out
    for of_type, number in expected.items():
        pairs = Counter((i.question.text, i.question.answer) for i in items[of_type])
        assert set(pairs.values()) == {1}  # each answer of a question once
        texts = Counter(text for text, _ in pairs)
        assert set(texts.values()) == {number}
        answers = Counter(answer for _, answer in pairs)
        assert len(set(answers.values())) == 1  # nor does its type


def test_a_balanced_size_has_each_item_equally_often() -> None:
    # 30, 40, 40 and 10 * 4 * 7 items; a multiple of all of them for each of 4 types.
    assert balanced_size(DIGIT_PAIRS.items("train")) == 4 * 840
    assert balanced_size(DIGIT_PAIRS.items("test")) == 4 * 240
    assert balanced_size(Combinations(CLOTHES, 1, 0).items("train")) == 4 * 192


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_have_three_groups_of_different_kinds_in_lines(split: str) -> None:
    for of_type in QUESTION_TYPES:
        for _, scene in scenes(split, of_type, repeats=1):
            assert lines(scene) == [0, 1, 2]
            assert len({group.kind for group in scene.groups}) == 3
            assert all(1 <= len(set(group.cells)) <= 3 for group in scene.groups)


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_have_the_answer(split: str) -> None:
    names = {name: kind for kind, name in DIGITS.items()}
    for item, scene in scenes(split, "count"):
        (group,) = (g for g in scene.groups if g.kind == item.kind)
        assert NUMBERS[len(group.cells) - 1] == item.question.answer
    for item, scene in scenes(split, "colour"):
        (group,) = (g for g in scene.groups if g.kind == item.kind)
        assert group.colour == item.question.answer
    for item, scene in scenes(split, "kind"):
        (group,) = (g for g in scene.groups if f"what is {g.colour} ?" == item.question.text)
        assert DIGITS[group.kind] == item.question.answer
    for item, scene in scenes(split, "relation"):
        place = {g.kind: line for g, line in zip(scene.groups, lines(scene), strict=True)}
        step = place[names[item.question.answer]] - place[item.kind]
        words = item.question.text
        assert step == (-1 if "left of" in words or "above" in words else 1)
        vertical = "above" in words or "below" in words
        assert scene.relation == ("above" if vertical else "left of")


def test_neighbours_of_the_test_are_no_neighbours_elsewhere() -> None:
    pairs: dict[str, set[tuple[str, int, int]]] = {}
    for split in SPLITS:
        pairs[split] = {
            (str(scene.relation), a.kind, b.kind)
            for of_type in QUESTION_TYPES
            for _, scene in scenes(split, of_type, repeats=2)
            for a, b in zip(scene.groups, scene.groups[1:], strict=False)
        }
    assert pairs["train"] == pairs["val"]
    assert not pairs["train"] & pairs["test"]
    assert len(pairs["test"]) == len(AXES) * 10 * 2
    assert len(pairs["train"]) == len(AXES) * 10 * 7


@pytest.mark.parametrize("held_out", [0, 4, -1])
def test_too_few_or_too_many_held_out_neighbours_are_refused(held_out: int) -> None:
    message = f"held_out_neighbors: got {held_out}, expected 1 up to 3 of the 9 other kinds"
    with pytest.raises(ValueError, match=message):
        Combinations(DIGITS, held_out, seed=0)
