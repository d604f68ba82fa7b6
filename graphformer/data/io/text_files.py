"""Raw text: files, folders and zip archives as one row of bytes that is read piece by piece."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Literal

from graphformer.data.io.cache import MissingDataError, data_root

DocumentUnit = Literal["file", "line", "paragraph"]
Archives = dict[Path, zipfile.ZipFile]
_CHUNK = 1 << 20
_LONGEST = 1 << 24  # a text without newlines is cut after so many bytes


@dataclass(frozen=True)
class TextSource:
    """A file, or a member of a zip archive."""

    path: Path
    member: str | None
    size: int

    @property
    def name(self) -> str:
        """What errors call it."""
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    @contextmanager
    def open(self, archives: Archives | None = None) -> Iterator[IO[bytes]]:
        """Open it for reading bytes; `archives` are those that are open already."""
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
            return
        with ExitStack() as stack:
            archive = (archives or {}).get(self.path)
            if archive is None:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
            yield stack.enter_context(archive.open(self.member))


@contextmanager
def open_archives(sources: Sequence[TextSource]) -> Iterator[Archives]:
    """Open each archive among the sources once: reading its contents takes a while."""
    with ExitStack() as stack:
        paths = dict.fromkeys(s.path for s in sources if s.member is not None)
        yield {path: stack.enter_context(zipfile.ZipFile(path)) for path in paths}


def find_sources(path: str, glob: str, root: str | None) -> list[TextSource]:
    """Return the file `path`, or what matches `glob` in a folder or zip archive, in order.

    `path` is looked for as it stands, then under the data root.

    Raises:
        MissingDataError: there is nothing.
        ValueError: the archive is broken.
    """
    under_root = data_root(root) / path
    found = Path(path).expanduser()
    found = found if found.exists() else under_root
    if found.suffix == ".zip" and found.is_file():
        sources = _members(found, glob)
    elif found.is_file():
        return [TextSource(found, None, found.stat().st_size)]
    else:
        files = sorted(file for file in found.glob(glob) if file.is_file())
        sources = [TextSource(file, None, file.stat().st_size) for file in files]
    if not sources:
        raise MissingDataError(
            f"path is {path!r}, but neither {Path(path).absolute()} nor {under_root.absolute()} "
            f"is a text file or a folder or zip archive with files {glob!r}: put the text there, "
            "or set root or the variable GRAPHFORMER_DATA to where it is."
        )
    return sources


def total_size(sources: Sequence[TextSource]) -> int:
    """Return the number of bytes of the sources, joined by newlines."""
    return sum(source.size for source in sources) + max(0, len(sources) - 1)


def read_bytes(
    sources: Sequence[TextSource], start: int, stop: int, opened: Archives | None = None
) -> Iterator[bytes]:
    """Yield bytes `start` to `stop` of the sources, joined by newlines, in pieces."""
    offset = 0
    with nullcontext(opened) if opened is not None else open_archives(sources) as archives:
        for number, source in enumerate(sources):
            if number:
                if start <= offset < stop:
                    yield b"\n"
                offset += 1
            first, last = max(start - offset, 0), min(stop - offset, source.size)
            offset += source.size
            if first >= last:
                continue
            with source.open(archives) as file:
                file.seek(first)
                for at in range(first, last, _CHUNK):
                    yield file.read(min(_CHUNK, last - at))


def character_boundary(sources: Sequence[TextSource], position: int) -> int:
    """Return the first place at or behind `position` where a character of UTF-8 may begin."""
    for byte in b"".join(read_bytes(sources, position, position + 4)):
        if byte & 0xC0 != 0x80:
            break
        position += 1
    return position


def fingerprint(sources: Sequence[TextSource], start: int, stop: int) -> str:
    """Return the SHA-256 of bytes `start` to `stop`."""
    digest = hashlib.sha256()
    for piece in read_bytes(sources, start, stop):
        digest.update(piece)
    return digest.hexdigest()


def read_pieces(
    sources: Sequence[TextSource],
    start: int,
    stop: int,
    *,
    documents: DocumentUnit | None = None,
    raw: bool = False,
) -> Iterator[tuple[str, bool]]:
    """Yield the text between two bytes piece by piece, and whether a document ends with a piece.

    Args:
        sources: files, joined by newlines unless each is a document.
        start, stop: the range in bytes.
        documents: "file", "line" or "paragraph" (between blank lines); None: no ends.
        raw: keep bytes that are not UTF-8, as surrogates, and line ends as they are.

    Raises ValueError for bytes that are not UTF-8.
    """
    if documents != "file":
        whole = _texts(sources, start, stop, raw=raw, blank=documents == "paragraph")
        for text in whole:
            yield from _split(text, documents)
        return
    offset = 0
    with open_archives(sources) as opened:
        for source in sources:
            first, last = max(start - offset, 0), min(stop - offset, source.size)
            offset += source.size + 1
            before = None
            for text in _texts([source], first, last, raw=raw, opened=opened):
                if before is not None:
                    yield before, False
                before = text
            if before is not None:
                yield before, True


def _split(text: str, documents: DocumentUnit | None) -> Iterator[tuple[str, bool]]:
    if documents is None:
        yield text, False
        return
    parts = re.split(r"\n" if documents == "line" else r"\n[ \t\r]*\n", text)
    for part in parts:
        if part.strip():
            yield part.strip("\n"), True


def _texts(
    sources: Sequence[TextSource],
    start: int,
    stop: int,
    *,
    raw: bool,
    blank: bool = False,
    opened: Archives | None = None,
) -> Iterator[str]:
    """The text in pieces that end behind a newline, or behind a blank line."""
    ends = (b"\n\n", b"\n\r\n") if blank else (b"\n",)
    buffer, position = b"", start
    for piece in read_bytes(sources, start, stop, opened):
        buffer += piece
        if len(buffer) < _CHUNK:
            continue
        cut = max((buffer.rfind(end) + len(end) for end in ends if end in buffer), default=0)
        if not cut and len(buffer) > _LONGEST:
            cut = next(i for i in range(len(buffer) - 1, 0, -1) if buffer[i] & 0xC0 != 0x80)
        if cut:
            yield _decode(buffer[:cut], sources, position, raw)
            buffer, position = buffer[cut:], position + cut
    if buffer:
        yield _decode(buffer, sources, position, raw)


def _decode(data: bytes, sources: Sequence[TextSource], position: int, raw: bool) -> str:
    if raw:
        return data.decode("utf-8", errors="surrogateescape")
    try:
        # Marks of the byte order, which some editors put first, are no text.
        return data.decode("utf-8").replace("\r\n", "\n").replace("\ufeff", "")
    except UnicodeDecodeError as error:
        at = position + error.start
        for source in sources:
            if at < source.size:
                break
            at -= source.size + 1
        raise ValueError(
            f"{source.name} is not UTF-8 text (byte {at}): convert it, or use vocabulary 'bytes'."
        ) from None


def _members(archive: Path, glob: str) -> list[TextSource]:
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a readable zip archive: {error}.") from None
    pattern = glob.removeprefix("**/")  # an archive's names are matched slashes and all
    matching = [i for i in infos if fnmatch(i.filename, glob) or fnmatch(i.filename, pattern)]
    return [
        TextSource(archive, info.filename, info.file_size)
        for info in sorted(matching, key=lambda info: info.filename)
    ]
