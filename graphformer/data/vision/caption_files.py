"""Files of captions: tables, JSON lines, and the layouts of COCO, Karpathy, Flickr and Kaggle."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphformer.data.io.tabular import (
    decoded_lines,
    get_field,
    get_text,
    is_json,
    read_lines,
    read_records,
)

IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name")
CAPTION_COLUMNS = ("caption", "comment", "sentence", "text")
"""Names by which a header is recognised."""
KARPATHY_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_NUMBERED = re.compile(r"(\.\w+)#\d+$")  # Flickr8k: "1000268201.jpg#0"
_NO_SEPARATOR = re.compile(r"\s*\d+\s+(\S.*)")  # one row of Flickr30k lacks its second "|"


@dataclass(frozen=True)
class Caption:
    """A caption of an image.

    Args:
        place: where it is in the file, for messages.
        image: file name, relative to the folder of the images.
        text: the caption.
        split: "train", "val" or "test" if the file assigns one.
    """

    place: str
    image: str
    text: str
    split: str | None = None


def read_captions(
    file: Path, image: str | None = None, caption: str | None = None
) -> Iterator[Caption]:
    """Yield the captions of a file in its order.

    Without names of fields, the layout is recognised by the content: COCO's and Karpathy's JSON, a
    JSON list of objects, a table with a header (Kaggle's captions.txt, Flickr30k's results.csv),
    Flickr8k's token file, JSON lines with "image" and "caption", or a table without a header whose
    first two columns are image and caption.

    Args:
        file: of the captions.
        image, caption: names of fields or columns; two numbers are columns, from 0, of a table
            without a header.

    Raises:
        ValueError: when an entry is malformed; the message names it.
    """
    if image is None and caption is None:
        document = _json_document(file)
        if document is not None:
            yield from _from_document(file, document)
            return
        if not is_json(file):
            separator = _header_separator(file)
            if separator is not None:
                yield from _from_table(file, separator)
                return
    yield from _from_records(file, image, caption)


def _from_records(file: Path, image: str | None, caption: str | None) -> Iterator[Caption]:
    usual = ("image", "caption") if is_json(file) else ("0", "1")
    image, caption = image or usual[0], caption or usual[1]
    header = not (image.isdigit() and caption.isdigit())
    for number, record in read_records(file, header=header):
        name = get_text(record, image, file, number)
        value = get_field(record, caption, file, number)
        for text in value if isinstance(value, list) else [value]:
            text = get_text({caption: text}, caption, file, number)
            yield Caption(f"line {number}", _NUMBERED.sub(r"\1", name), text)


def _json_document(file: Path) -> Any:
    """The document in a .json file that is a list or has "images"; None for JSON lines."""
    if ".json" not in file.suffixes:
        return None
    raw = file.read_bytes()
    try:
        document = json.loads(gzip.decompress(raw) if file.suffix == ".gz" else raw)
    except (ValueError, OSError, EOFError):
        return None  # JSON lines, or an error that their reader reports
    is_layout = isinstance(document, dict) and isinstance(document.get("images"), list)
    return document if is_layout or isinstance(document, list) else None


def _from_document(file: Path, document: Any) -> Iterator[Caption]:
    if isinstance(document, list):
        for number, record in enumerate(document):
            place = f"entry {number}"
            texts = _member(record, "caption", file, place)
            for text in texts if isinstance(texts, list) else [texts]:
                yield Caption(place, str(_member(record, "image", file, place)), str(text))
    elif "annotations" in document:
        yield from _from_coco(file, document)
    else:
        yield from _from_karpathy(file, document)


def _from_coco(file: Path, document: dict[str, Any]) -> Iterator[Caption]:
    names = {}
    for number, image in enumerate(document["images"]):
        place = f"image {number}"
        names[_member(image, "id", file, place)] = _member(image, "file_name", file, place)
    for number, annotation in enumerate(document["annotations"]):
        place = f"annotation {number}"
        image = _member(annotation, "image_id", file, place)
        if image not in names:
            raise ValueError(f"{file}, {place}: got image_id {image}, expected an id of an image")
        yield Caption(place, names[image], str(_member(annotation, "caption", file, place)))


def _from_karpathy(file: Path, document: dict[str, Any]) -> Iterator[Caption]:
    for number, image in enumerate(document["images"]):
        place = f"image {number}"
        name = str(Path(image.get("filepath", ""), _member(image, "filename", file, place)))
        split = KARPATHY_SPLITS.get(image.get("split", "train"))
        for sentence in _member(image, "sentences", file, place):
            yield Caption(place, name, str(_member(sentence, "raw", file, place)), split)


def _member(record: Any, name: str, file: Path, place: str) -> Any:
    if not isinstance(record, dict) or record.get(name) is None:
        found = ", ".join(map(repr, record)) if isinstance(record, dict) else repr(record)
        raise ValueError(f"{file}, {place}: got {found or 'nothing'}, expected the field {name!r}")
    return record[name]


def _header_separator(file: Path) -> str | None:
    """What separates the columns of a table whose first line names image and caption; or None."""
    _, first = next(read_lines(file), (0, ""))
    for separator in ("\t", "|", ","):
        names = _columns(first, separator)
        if _index(names, IMAGE_COLUMNS) is not None and _index(names, CAPTION_COLUMNS) is not None:
            return separator
    return None


def _columns(line: str, separator: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.split(separator)]


def _index(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((i for i, name in enumerate(names) if name in known), None)


def _from_table(file: Path, separator: str) -> Iterator[Caption]:
    rows = _rows(file, separator)
    names = [name.strip().lower() for name in next(rows)[1]]
    image, caption = _index(names, IMAGE_COLUMNS), _index(names, CAPTION_COLUMNS)
    assert image is not None
    assert caption is not None
    for number, columns in rows:
        if separator == "|" and len(columns) == len(names) - 1:
            match = _NO_SEPARATOR.fullmatch(columns[-1])
            columns = [*columns[:-1], "", match[1]] if match else columns
        if len(columns) != len(names):
            raise ValueError(
                f"{file}, line {number}: got {len(columns)} columns, expected the {len(names)} of "
                "the header"
            )
        yield Caption(f"line {number}", columns[image].strip(), columns[caption].strip())


def _rows(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number and columns of each row; only commas may be quoted."""
    if separator != ",":
        for number, line in read_lines(file):
            yield number, line.split(separator)
        return
    reader = csv.reader(line for _, line in decoded_lines(file))
    for columns in reader:
        if columns:
            yield reader.line_num, columns
