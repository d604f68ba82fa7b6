"""Texts of files, folders and archives: pieces, globs, compression, what is left out."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphformer.data.io.cache import MissingDataError
from graphformer.data.io.text_files import (
    character_boundary,
    find_sources,
    fingerprint,
    read_bytes,
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


def test_byte_order_marks_and_carriage_returns_are_removed(tmp_path: Path) -> None:
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


def make_tree(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """A folder with files that contain their names, and a zip archive of it."""
    for name in names:
        (folder / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "texts" / name).write_text(name)
    with zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        for name in reversed(names):
            archive.writestr(name, name)
    return folder / "texts", folder / "texts.zip"


NAMES = ["a.txt", "d/b.txt", "d-e/c.txt", "d/e/c.txt", "d/e/f.md", "d/[x].txt", "D/g1.txt"]


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["D/g1.txt", "a.txt", "d/[x].txt", "d/b.txt", "d/e/c.txt", "d-e/c.txt"]),
        ("d/*.txt", ["d/[x].txt", "d/b.txt"]),
        ("d/**/*.txt", ["d/[x].txt", "d/b.txt", "d/e/c.txt"]),
        ("d/**/e/*", ["d/e/c.txt", "d/e/f.md"]),
        ("?/[b-g]*.txt", ["D/g1.txt", "d/b.txt"]),
        ("*/[!b]*[0-9].txt", ["D/g1.txt"]),
        ("d/[[]x].txt", ["d/[x].txt"]),
    ],
)
def test_a_glob_finds_the_same_files_in_a_folder_and_an_archive(
    tmp_path: Path, glob: str, matching: list[str]
) -> None:
    for path in make_tree(tmp_path, NAMES):
        found = [
            (s.member or str(s.path.relative_to(path))) for s in find_sources(path, glob, None)
        ]
        assert found == matching


def test_hidden_files_and_those_of_the_system_are_left_out(tmp_path: Path) -> None:
    names = ["a.txt", ".hidden.txt", "__MACOSX/._a.txt", ".git/b.txt", "c/.DS_Store"]
    for path in make_tree(tmp_path, names):
        assert len(find_sources(path, "**/*", None)) == 1
        assert len(find_sources(path, ".git/*.txt", None)) == 1


@pytest.mark.parametrize("in_archive", [False, True])
def test_gzip_files_are_read_as_text(tmp_path: Path, in_archive: bool) -> None:
    text = "line é\n" * 300_007
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(text.encode()[:101]) + gzip.compress(text.encode()[101:]))
    if in_archive:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(path, "a.txt.gz")
        path = tmp_path / "a.zip"
    sources = find_sources(path, "*", None)
    assert total_size(sources) == len(text.encode())
    pieces = [piece for piece, _ in read_pieces(sources, 0, total_size(sources))]
    assert "".join(pieces) == text
    assert b"".join(read_bytes(sources, 8 * 211, 8 * 223)).decode() == "line é\n" * 12


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"abc" * 97, mtime=0)[:-5]])
def test_broken_gzip_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.gz: not a complete gzip file"):
        find_sources(tmp_path / "a.gz", "*", None)


def test_a_fingerprint_is_that_of_the_range(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"abc")
    sources = find_sources(tmp_path, "*", None)
    assert total_size(sources) == 14
    expected = hashlib.sha256(b"89\nab").hexdigest()
    assert fingerprint(sources, 8, 13) == expected
    assert fingerprint(sources, 8, 14) != expected


def test_a_missing_text_is_named_with_both_paths(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"path: got 'no.txt', but neither .* nor .*no.txt"):
        find_sources("no.txt", "*.txt", str(tmp_path))
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="broken.zip is not a readable zip archive"):
        find_sources(tmp_path / "broken.zip", "*", None)
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "b.txt").write_bytes(b"d\xff")
    sources = find_sources(tmp_path, "*.txt", None)
    with pytest.raises(ValueError, match=r"b.txt is not UTF-8 text \(byte 1\)"):
        list(read_pieces(sources, 0, total_size(sources)))


@pytest.mark.parametrize("encoding", ["utf-16", "UTF-32-BE", "latin-1"])
def test_texts_in_other_encodings(tmp_path: Path, encoding: str):
    texts = {"a.txt": "größer\nals", "b.txt.gz": "zwölf", "c.txt": "é"}
    for name, text in texts.items():
        raw = text.encode(encoding)
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in texts:
            archive.write(tmp_path / name, name)
    joined = "\n".join(texts.values())
    for path, glob in ((tmp_path, "*.txt*"), (tmp_path / "all.zip", "*")):
        sources = find_sources(path, glob, None, encoding)
        size = total_size(sources)
        assert size == len(joined.encode())
        assert b"".join(read_bytes(sources, 3, size)) == joined.encode()[3:]
        assert "".join(text for text, _ in read_pieces(sources, 0, size)) == joined


def test_a_wrong_encoding_is_named(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt is not utf-16 text .*; set another encoding"):
        find_sources(tmp_path / "a.txt", "*", None, "utf-16")
    with pytest.raises(ValueError, match="encoding: got 'utf-17', expected a name that Python"):
        find_sources(tmp_path / "a.txt", "*", None, "utf-17")


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [(6, 1, "encrypted"), (8, 99, "compression"), (200, 0, "Error -3|CRC")],
)
def test_members_that_cannot_be_read_are_named(
    tmp_path: Path, position: int, value: int, expected: str
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", "to be or not to be " * 100)
    data = bytearray(path.read_bytes())
    data[position] = value
    directory = data.rindex(b"PK\x01\x02")
    if position < 10:  # the central directory repeats flags and method two bytes later
        data[directory + position + 2] = value
    path.write_bytes(data)
    sources = find_sources(path, "**/*.txt", None)
    with pytest.raises(ValueError, match=f"a.zip, a.txt: .*({expected})"):
        list(read_pieces(sources, 0, total_size(sources)))
