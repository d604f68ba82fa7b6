from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from helpers.wordnet import LICENCE, write_animals

from graphformer.data.io.cache import data_root
from graphformer.data.text.knowledge.wndb import Synset, parse_synset, read_wndb

LINES = [
    (
        "00002325 29 v 0b " + " ".join(f"w{i} 1" for i in range(11)) + " 001 "
        "@ 02108395 v 0000 01 + 02 00 | undergo respiration  \n",
        Synset("v00002325", tuple(f"w{i}" for i in range(11)), "undergo respiration",
               (("@", "v02108395"),)),
    ),
    (
        "00003553 00 s 02 emergent(p) 0 dying_(a) 0 002 & 00003356 a 0000 ;c 06000000 n 0101 | "
        'coming | "he | she"\n',
        Synset("a00003553", ("emergent", "dying_"), 'coming | "he | she"',
               (("&", "a00003356"), (";c", "n06000000"))),
    ),
    ("00000007 02 r 01 so 0 000 | thus", Synset("r00000007", ("so",), "thus", ())),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_lines_with_hexadecimal_counts_verb_frames_and_satellites(
    line: str, expected: Synset
) -> None:
    assert parse_synset(line) == expected


@pytest.mark.parametrize("compressed", [False, True])
def test_files_without_their_licence(tmp_path: Path, compressed: bool) -> None:
    file = write_animals(tmp_path)
    if compressed:
        packed = tmp_path / "data.noun.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file = packed
    synsets = list(read_wndb(file))
    assert [synset.words[0] for synset in synsets][:2] == ["animal", "dog"]
    assert synsets[1].words == ("dog", "domestic_dog")
    assert synsets[1].pointers[0] == ("@", "n00000100")


@pytest.mark.parametrize(
    "line",
    [
        "00000007 02 r 01 so 0 000 thus\n",
        "00000007 02 r 02 so 0 000 | thus\n",
        "00000007 02 r 01 so 0 001 @ 00000001 | thus\n",
        "00000007 02 r 01 so 0 001 ?? 00000001 n 0000 | thus\n",
        "a,b,c | d\n",
    ],
)
def test_other_lines_are_refused_by_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "data.adv"
    file.write_text(LICENCE + line)
    with pytest.raises(ValueError, match=r"data\.adv, line 2: got no synset .*data\.noun"):
        list(read_wndb(file))


def test_all_of_wordnet() -> None:
    folder = data_root() / "wordnet"
    if "GRAPHFORMER_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("no data folder with wordnet")
    adverbs = list(read_wndb(folder / "data.adv.gz"))
    assert len(adverbs) == 3621  # the number of Fellbaum's statistics, wnstats(7WN)
    assert adverbs[0].words == ("a_cappella",)
