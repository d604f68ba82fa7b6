from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.io.text_files import (
    character_boundary,
    find_sources,
    read_pieces,
    total_size,
)


@given(st.text(min_size=1, max_size=200), st.floats(0, 1))
def test_pieces_join_to_the_text_whatever_the_split(text: str, share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in "ab":
            (Path(folder) / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        sources = find_sources(folder, "*", None)
        whole = b"\n".join([text.encode("utf-8", "surrogatepass")] * 2)
        place = character_boundary(sources, int(total_size(sources) * share))
        ranges = [(0, place), (place, total_size(sources))]
        pieces = (piece for both in ranges for piece, _ in read_pieces(sources, *both, raw=True))
        assert "".join(pieces).encode("utf-8", "surrogateescape") == whole


def test_marks_of_the_byte_order_and_line_ends_are_no_text(tmp_path: Path) -> None:
    for name in "ab":
        text = f"\ufeff{name}\r\n\u2028c\r\n\r\nd"
        (tmp_path / name).write_bytes(text.encode())
    sources = find_sources(str(tmp_path), "*", None)

    def pieces(documents: str | None) -> list[str]:
        read = read_pieces(sources, 0, total_size(sources), documents=documents)  # type: ignore[arg-type]
        return [text for text, _ in read]

    assert pieces(None) == ["a\n\u2028c\n\nd\nb\n\u2028c\n\nd"]
    assert pieces("line") == ["a", "\u2028c", "d", "b", "\u2028c", "d"]
    assert pieces("paragraph") == ["a\n\u2028c", "d\nb\n\u2028c", "d"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_paragraphs_stay_whole_in_long_texts(tmp_path: Path, newline: str) -> None:
    paragraphs = [f"first {i}\nsecond" + "x" * (i % 7919) for i in range(5003)]
    text = "\n\n".join(paragraphs).replace("\n", newline)
    (tmp_path / "long.txt").write_bytes(text.encode())
    sources = find_sources(str(tmp_path / "long.txt"), "*", None)
    read = list(read_pieces(sources, 0, total_size(sources), documents="paragraph"))
    assert [text for text, _ in read] == paragraphs


def test_long_texts_are_read_piece_by_piece(tmp_path: Path) -> None:
    lines = [f"line {i} " + "é" * (i % 97) for i in range(40_000)]
    (tmp_path / "long.txt").write_text("\n".join(lines), encoding="utf-8")
    sources = find_sources(str(tmp_path / "long.txt"), "*", None)
    pieces = [text for text, _ in read_pieces(sources, 0, total_size(sources))]
    assert len(pieces) > 2
    assert "".join(pieces) == "\n".join(lines)
    split = [t for t, _ in read_pieces(sources, 0, total_size(sources), documents="line")]
    assert split == lines
