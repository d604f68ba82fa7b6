"""Files of captions: the layouts of COCO, Karpathy, Flickr8k, Flickr30k and Kaggle."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from graphformer.data.vision.caption_files import Caption, read_captions

NAMES = ("one.jpg", "two.jpg")
TEXTS = ("a child climbs the stairs .", 'she says "stop" , twice .')
PAIRS = [(name, text) for name in NAMES for text in TEXTS]


def coco() -> str:
    images = [{"id": 7 + i, "file_name": name} for i, name in enumerate(NAMES)]
    annotations = [
        {"id": 31 + i, "image_id": 7 + NAMES.index(name), "caption": text}
        for i, (name, text) in enumerate(PAIRS)
    ]
    return json.dumps({"info": {}, "images": images, "annotations": annotations})


def karpathy() -> str:
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": t, "tokens": []} for t in TEXTS]}
        for name, split in zip(NAMES, ("restval", "test"), strict=True)
    ]
    return json.dumps({"dataset": "coco", "images": images})


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


LAYOUTS = {
    "captions_train.json": coco(),
    "dataset_coco.json": karpathy(),
    "list.json": json.dumps([{"image": n, "caption": list(TEXTS)} for n in NAMES]),
    "lines.jsonl": "".join(json.dumps({"image": n, "caption": t}) + "\n" for n, t in PAIRS),
    "Flickr8k.token.txt": "".join(f"{n}#{i % 2}\t{t}\n" for i, (n, t) in enumerate(PAIRS)),
    "results.csv": "image_name| comment_number| comment\n"
    + "".join(f"{n}| {i % 2}| {t}\n" for i, (n, t) in enumerate(PAIRS)),
    "captions.txt": "image,caption\n" + "".join(f"{n},{quoted(t)}\n" for n, t in PAIRS),
    "table.tsv": "".join(f"{n}\t{t}\n" for n, t in PAIRS),
    "named.tsv": "text\tfilename\n" + "".join(f"{t}\t{n}\n" for n, t in PAIRS),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("is_gzipped", [False, True])
def test_layouts_are_recognised(name: str, is_gzipped: bool, tmp_path: Path) -> None:
    file = tmp_path / (f"{name}.gz" if is_gzipped else name)
    raw = LAYOUTS[name].encode()
    file.write_bytes(gzip.compress(raw) if is_gzipped else raw)
    captions = list(read_captions(file))
    assert [(caption.image, caption.text) for caption in captions] == PAIRS
    splits = ["train", "train", "test", "test"] if "dataset" in name else [None] * 4
    assert [caption.split for caption in captions] == splits


def test_columns_may_be_named_or_numbered(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("said,extra,file\na cat,0,one.jpg\n")
    expected = [Caption("line 2", "one.jpg", "a cat")]
    assert list(read_captions(file, "file", "said")) == expected
    numbered = list(read_captions(file, "2", "0"))
    assert [(c.image, c.text) for c in numbered] == [("file", "said"), ("one.jpg", "a cat")]


def test_a_row_of_flickr30k_without_its_second_bar_is_read(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("image_name| comment_number| comment\none.jpg| 4   A dog runs .\n")
    assert list(read_captions(file)) == [Caption("line 2", "one.jpg", "A dog runs .")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"image": "a.jpg"}]', "entry 0: got 'image', expected the field 'caption'"),
        ("a.json", "[3]", "entry 0: got 3, expected the field 'caption'"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2}]}',
            "annotation 0: got image_id 2, expected an id of an image",
        ),
        ("a.json", '{"images": [{"filename": "a"}]}', "image 0: .* expected the field 'sentences'"),
        ("a.json", '{"image": "a.jpg"}', "line 1: .*'caption'"),
        ("a.json", '{"image": ', "line 1"),
        (
            "a.txt",
            "image,caption\na.jpg,x,y",
            "line 2: got 3 columns, expected the 2 of the header",
        ),
    ],
)
def test_malformed_files_are_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_captions(tmp_path / name))
