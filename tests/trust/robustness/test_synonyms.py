"""Synonyms of two synsets written by hand, and of the real WordNet."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from graphformer.data import MissingDataError
from graphformer.trust.robustness import read_synonyms, replace_synonyms

LICENCE = b"  1 This software and database is being provided to you\n"
ADJECTIVES = b"""\
00001740 00 a 03 able 0 capable(p) 0 equal_to 0 001 ! 00002098 a 0101 | having the means
00002098 00 s 02 Capable 0 open 0 000 | susceptible
"""


def write_wordnet(folder: Path) -> None:
    (folder / "wordnet").mkdir()
    for part in ("noun", "verb", "adv"):
        (folder / f"wordnet/data.{part}").write_bytes(LICENCE)
    with gzip.open(folder / "wordnet/data.adj.gz", "wb") as file:
        file.write(LICENCE + ADJECTIVES)


def test_single_words_of_all_synsets(tmp_path: Path) -> None:
    write_wordnet(tmp_path)
    assert read_synonyms(tmp_path) == {
        "able": ["capable"], "capable": ["able", "open"], "open": ["capable"]
    }  # fmt: skip


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="there is neither .*wordnet/data.noun nor data.no"):
        read_synonyms(tmp_path)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, "An able man"), (1.0, "An capable man")])
def test_words_without_synonyms_stay(rate: float, expected: str) -> None:
    synonyms = {"able": ["capable"]}
    assert replace_synonyms("An able man", rate, random.Random(0), synonyms) == expected


def test_real_synonyms(real_data: Callable[[str], Path]) -> None:
    synonyms = read_synonyms(real_data("wordnet").parent)
    assert {"film", "flick"} <= set(synonyms["movie"])
    assert len(synonyms) > 30_000
