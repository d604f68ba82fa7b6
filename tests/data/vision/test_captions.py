"""Images with sentences: files of captions, and composed scenes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphformer.data import CaptionFile, MissingDataError, Scenes
from graphformer.data.vision.scenes import CELL, COLOURS, DIGITS, Group, Scene

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
    assert Scene((first, second), "above").sentence(DIGITS) == "two red sixes above a blue three"
    assert Scene((second,), None).sentence(DIGITS) == "a blue three"


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
    assert batch.source_shapes == [(6, 6)] * 7
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
        ({"source": "fruit"}, "source is 'fruit'"),
        ({"rows": 1}, "rows and columns are 1 and 3"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"augment": ["flip"]}, "'flip' would turn left round"),
        ({"augment": ["mixup:0.2"]}, "'mixup' adds images up"),
        ({"num_samples": -3}, "num_samples, val_size and test_size are -3"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenes(**settings)


@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_captions_beside_images(kind: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    rows = [(f"{i}.png", f"number {['one', 'two', 'three'][i % 3]}") for i in range(11)]
    for i, (name, _) in enumerate(rows):
        pixels = np.full((8 + 4 * (i % 2), 8, 3), 20 * i, np.uint8)
        image.fromarray(pixels).save(tmp_path / name)
    file = tmp_path / f"captions.{kind}"
    if kind == "jsonl":
        lines = [json.dumps({"image": name, "caption": caption}) for name, caption in rows]
    else:
        lines = ["\t".join(row) for row in rows]
    file.write_text("\n".join(lines) + "\n")
    data = CaptionFile(str(file), patch_size=4, batch_size=3)
    data.setup()
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [9, 1, 1]
    batch = next(iter(data.train_dataloader()))
    assert set(batch.source_shapes) <= {(2, 2), (3, 2)}
    assert data.decode(batch.y[: batch.lengths[0] - 1]).startswith("number ")
    (tmp_path / "3.png").unlink()
    with pytest.raises(MissingDataError, match="line 4: there is no image"):
        CaptionFile(str(file), patch_size=4).setup()


def written(folder: Path, lines: list[str], name: str = "captions.tsv") -> str:
    """A file of captions, beside seven images of 8 x 8."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    for i in range(7):
        image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


@pytest.mark.parametrize("kind", ["lines", "columns", "lists"])
def test_all_sentences_of_an_image_are_in_one_part(kind: str, tmp_path: Path) -> None:
    said = {f"{i}.png": [f"the {word} {i}" for word in ("first", "second")] for i in range(7)}
    if kind == "lines":
        lines = [f"{name}\t{own[turn]}" for turn in (0, 1) for name, own in said.items()]
        file = written(tmp_path, lines)
    elif kind == "columns":
        lines = [f"{sentence},{name}" for name, own in said.items() for sentence in own]
        file = written(tmp_path, ["said,file", *lines], "captions.csv")
    else:
        lines = [json.dumps({"image": name, "caption": own}) for name, own in said.items()]
        file = written(tmp_path, lines, "captions.jsonl")
    names = {"image": "file", "caption": "said"} if kind == "columns" else {}
    data = CaptionFile(file, patch_size=4, val_fraction=0.3, test_fraction=0.3, **names)
    data.setup()
    splits = [set(data.splits[split][0].files) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [3, 2, 2]
    assert len(set.union(*splits)) == 7
    for images, sentences in data.splits.values():
        assert [f"{file.stem}" for file in images.files] == [s.split()[-1] for s in sentences]
        assert len(sentences) == 2 * len(set(images.files))


def test_long_sentences_are_cut_to_what_a_model_can_place(tmp_path: Path) -> None:
    file = written(tmp_path, [f"{i}.png\t" + "word " * 19 for i in range(7)])
    data = CaptionFile(file, patch_size=4, max_length=11, val_fraction=0.2, test_fraction=0.2)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert set(batch.lengths) == {11}
    assert (batch.y.view(-1, 11)[:, -1] == data.need_tokenizer().need("eos")).all()


def test_corrupt_images_of_captions_are_named_or_skipped(tmp_path: Path) -> None:
    file = written(tmp_path, [f"{i}.png\tnumber {i}" for i in range(7)])
    (tmp_path / "4.png").write_bytes(b"no image at all")
    fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
    with pytest.raises(ValueError, match=r"4\.png is no image.*skip_corrupt"):
        CaptionFile(file, patch_size=4, val_path=file, test_path=file).setup()
    data = CaptionFile(file, patch_size=4, skip_corrupt=True, **fractions)
    with pytest.warns(UserWarning, match=r"skipped 1 of 7 .*4\.png"):
        data.setup()
    assert sum(len(sentences) for _, sentences in data.splits.values()) == 6


@pytest.mark.parametrize(
    ("name", "line", "settings", "message"),
    [
        ("a.jsonl", '{"image": "0.png"}', {}, "line 8: there is no field 'caption'"),
        (
            "a.jsonl",
            '{"image": "0.png", "caption": null}',
            {},
            "'caption' is null",
        ),
        ("a.jsonl", '{"image": "0.png", "caption": [{}]}', {}, "line 8: .* got an object"),
        ("a.tsv", "0.png\t ", {}, "line 8: there is no sentence about 0.png"),
        ("a.tsv", "0.png", {}, "line 8: there is no field .1., only .0."),
        ("a.tsv", "0.png\tzero", {"caption": "said"}, "there is no field '0', only '0.png'"),
        ("a.tsv", "0.png\tzero", {"max_length": 1}, "max_length is 1"),
        ("a.tsv", "0.png\tzero", {"patch_size": 0}, "patch_size: got 0"),
        ("a.tsv", "0.png\tzero", {"augment": ["mixup:0.2"]}, "'mixup' adds images up"),
        ("a.tsv", "0.png\tzero", {"val_fraction": 0.0}, "no images in the split 'val'"),
    ],
)
def test_wrong_captions_are_named(
    name: str, line: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    lines = [f"{i}.png\tnumber {i}" for i in range(7)]
    if name.endswith("jsonl"):
        lines = [json.dumps({"image": f"{i}.png", "caption": f"number {i}"}) for i in range(7)]
    file = written(tmp_path, [*lines, line], name)
    with pytest.raises(ValueError, match=message):
        CaptionFile(file, **{"patch_size": 4, **settings}).setup()


def test_no_more_scenes_than_can_be_told_apart() -> None:
    with pytest.raises(ValueError, match=r"test_size is 997, but only \d+ scenes that differ"):
        digits(test_size=997, held_out=0.01)
