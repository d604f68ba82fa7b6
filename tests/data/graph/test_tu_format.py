"""Malformed files of a TU data set: each is named, with its line where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.data import TUDataset
from graphformer.data.graph.tu_format import check_tu_files


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two graphs of 2 and 1 nodes, and all optional files."""
    for ending, text in {
        "A": "1, 2\n2, 1\n",
        "graph_indicator": "1\n1\n2\n",
        "graph_labels": "0\n1\n",
        "node_labels": "0\n1\n0\n",
        "node_attributes": "0.5, 1\n-1e3, 2\n0, 0\n",
        "edge_labels": "1\n1\n",
    }.items():
        (tmp_path / f"TINY_{ending}.txt").write_text(text)
    return tmp_path


def test_files_that_fit_are_accepted(raw: Path) -> None:
    check_tu_files(raw, "TINY")


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        ("A", "1, 2\n2, 1\n\n", "a blank line 3"),
        ("A", "1, 2\n\n2, 1\n", "a blank line 2"),
        ("A", "1, 2\n2, 1", "a last line without newline"),
        ("A", "1, 2\n2, x\n", "a line that is no row of numbers"),
        ("A", "1\n2\n", "got 1 columns, expected 2"),
        ("A", "1, 2\n2, 4\n", "got node 4, expected nodes from 1 to 3"),
        ("A", "0, 1\n1, 0\n", "got node 0, expected nodes from 1 to 3"),
        ("A", "1, 2\n2, 3\n", "got an edge between two graphs in line 2"),
        ("A", "", "got an empty file"),
        ("graph_indicator", "1\n2\n1\n", "in ascending order"),
        ("graph_indicator", "0\n0\n1\n", "in ascending order"),
        ("graph_indicator", "1\n1\n3\n", "in ascending order"),
        ("graph_labels", "0\n1\n1\n", "got 3 rows, expected 2, one for each graph"),
        ("node_labels", "0\n1\n", "got 2 rows, expected 3, one for each node"),
        ("edge_labels", "0\n", "got 1 rows, expected 2, one for each edge"),
        ("node_attributes", "0.5, 1\n2\n0, 0\n", "a line that is no row of numbers"),
    ],
)
def test_malformed_files_are_named(raw: Path, ending: str, text: str, message: str) -> None:
    (raw / f"TINY_{ending}.txt").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        check_tu_files(raw, "TINY")
    assert f"TINY_{ending}.txt: got" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_is_checked_before_pyg_reads_it(toy_tu: Path) -> None:
    file = toy_tu / "tu" / "TOY" / "raw" / "TOY_A.txt"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ValueError, match=r"TOY_A\.txt: got a blank line"):
        TUDataset("TOY", root=str(toy_tu)).setup()
