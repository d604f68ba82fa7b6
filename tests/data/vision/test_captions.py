"""Images with captions from files: splits, batches, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphformer.data import CaptionFile, MissingDataError


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
    with pytest.raises(ValueError, match=r"4\.png: got no image.*skip_corrupt"):
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
        ("a.tsv", "0.png\t ", {}, "line 8: got an empty caption of 0.png"),
        ("a.tsv", "0.png", {}, "line 8: there is no field .1., only .0."),
        ("a.tsv", "0.png\tzero", {"caption": "said"}, "there is no field '0', only '0.png'"),
        ("a.tsv", "0.png\tzero", {"max_length": 1}, "max_length: got 1"),
        ("a.tsv", "0.png\tzero", {"patch_size": 0}, "patch_size: got 0"),
        ("a.tsv", "0.png\tzero", {"augment": ["mixup:0.2"]}, "augment: got 'mixup' or"),
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


def coloured(folder: Path, names: list[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    for i, name in enumerate(names):
        image.new("RGB", (8, 8), (20 * i, 0, 0)).save(folder / name)


def test_the_splits_of_a_file_are_taken(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(7)]
    coloured(tmp_path, names)
    splits = ["train", "train", "restval", "val", "test", "test", "test"]
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": f"number {name}"}] * 2}
        for name, split in zip(names, splits, strict=True)
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    data = CaptionFile(str(tmp_path / "dataset.json"), patch_size=4, batch_size=3)
    data.setup()
    sizes = {split: len(captions) for split, (_, captions) in data.splits.items()}
    assert sizes == {"train": 6, "val": 2, "test": 6}
    test = [file.name for file in data.splits["test"][0].files]
    assert test == ["4.png", "4.png", "5.png", "5.png", "6.png", "6.png"]


def test_decomposed_names_of_files_are_found(tmp_path: Path) -> None:
    names = ["cafe\u0301.png", *(f"{i}.png" for i in range(6))]
    coloured(tmp_path, names)
    rows = ["caf\u00e9.png\ta place", *(f"{i}.png\tnumber {i}" for i in range(6))]
    (tmp_path / "a.tsv").write_text("\n".join(rows), encoding="utf-8")
    data = CaptionFile(str(tmp_path / "a.tsv"), patch_size=4)
    data.setup()
    files = {file.name for images, _ in data.splits.values() for file in images.files}
    assert files == set(names)


def test_augmentation_of_captioned_images_depends_on_the_epoch(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(7)]
    coloured(tmp_path, names)
    (tmp_path / "a.tsv").write_text("\n".join(f"{name}\tnumber {name}" for name in names))
    data = CaptionFile(str(tmp_path / "a.tsv"), patch_size=4, batch_size=1, augment=["erase:0.9"])
    data.setup()
    loader = data.train_dataloader()
    versions: dict[int, set[bytes]] = {}
    for epoch in range(5):
        loader.sampler.set_epoch(epoch)
        for index, batch in zip(loader.sampler, loader, strict=True):
            versions.setdefault(int(index), set()).add(batch.source.numpy().tobytes())
    assert min(map(len, versions.values())) >= 4
