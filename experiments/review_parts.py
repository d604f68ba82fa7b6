"""Writes movie reviews in parts of 380 words, for experiments/sparse_student.yaml.

    python experiments/review_parts.py --out FOLDER

The split is that of datasets/movie_reviews.yaml. `rest.jsonl` has the parts of the training reviews
after the first one, `val.jsonl` and `test.jsonl` the whole reviews of the other splits; 380 words
are at most about 512 tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from graphformer.data import LabelledText

WORDS = 380


def write(path: Path, texts: Iterable[str]) -> None:
    """Write one text a line."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def later_parts(text: str) -> list[str]:
    """Return the parts of a review after its first `WORDS` words, without a short last one."""
    words = text.split()
    parts = [words[start : start + WORDS] for start in range(WORDS, len(words), WORDS)]
    return [" ".join(part) for part in parts if len(part) >= WORDS // 8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", help="the data root")
    arguments = parser.parse_args()
    data = LabelledText(
        "nltk/movie_reviews.zip",
        classes={"neg": "neg/*.txt", "pos": "pos/*.txt"},
        root=arguments.root,
    )
    data.setup()
    arguments.out.mkdir(parents=True, exist_ok=True)
    splits = {name: [text for text, _ in data.splits[name]] for name in ("train", "val", "test")}
    rest = [part for text in splits["train"] for part in later_parts(text)]
    write(arguments.out / "rest.jsonl", rest)
    for name in ("val", "test"):
        write(arguments.out / f"{name}.jsonl", splits[name])
    print(f"{len(splits['train']):,} training reviews, {len(rest):,} further parts")


if __name__ == "__main__":
    main()
