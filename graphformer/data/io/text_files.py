"""Text files, folders and zip archives, read piece by piece as one sequence of bytes."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal, cast

from graphformer.data.io.cache import MissingDataError, data_root

DocumentUnit = Literal["file", "line", "paragraph"]
"""What is one document: a file, a line, or the lines between blank lines."""
Archives = dict[Path, zipfile.ZipFile]
_CHUNK = 1 << 20
_LONGEST = 1 << 24  # bytes after which a text without newlines is cut


@dataclass(frozen=True)
class TextSource:
    """A file, or a member of a zip archive; either is decompressed if its name ends in .gz.

    Attributes:
        path: of the file or the archive.
        member: name in the archive; None for a file.
        size: number of bytes, decompressed and in UTF-8.
        encoding: of the text; one other than UTF-8 is converted, all of it in memory.
    """

    path: Path
    member: str | None
    size: int
    encoding: str = "utf-8"

    @classmethod
    def of_file(cls, file: Path) -> TextSource:
        """Return the source of a file."""
        status = file.stat()
        size = status.st_size
        if file.suffix == ".gz":
            size = _decompressed_size(file, size, status.st_mtime_ns)
        return cls(file, None, size)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    @contextmanager
    def open(self, archives: Archives | None = None) -> Iterator[IO[bytes]]:
        """Open it for reading bytes.

        Args:
            archives: archives that are open already.

        Raises:
            ValueError: when it cannot be decompressed, or is encrypted.
        """
        with ExitStack() as stack:
            if self.member is None:
                raw: IO[bytes] = stack.enter_context(self.path.open("rb"))
            else:
                archive = (archives or {}).get(self.path)
                if archive is None:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                try:
                    raw = stack.enter_context(archive.open(self.member))
                except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                    # encrypted, compressed by another method, or broken
                    raise ValueError(f"{self.name}: cannot be read ({error})") from None
            try:
                file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if self._is_gzip else raw
                yield file if self.encoding == "utf-8" else self._in_utf8(file.read())
            except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
                kind = "gzip file" if self._is_gzip else "member of its archive"
                raise ValueError(f"{self.name}: not a complete {kind} ({error})") from None

    def with_encoding(self, encoding: str) -> TextSource:
        """Return the source with its text in an encoding."""
        source = replace(self, encoding=encoding)
        return source if encoding == "utf-8" else replace(source, size=_read_size(source))

    def _in_utf8(self, raw: bytes) -> io.BytesIO:
        try:
            text = raw.decode(self.encoding)
        except UnicodeError as error:
            raise ValueError(
                f"{self.name} is not {self.encoding} text ({error}); set another encoding"
            ) from None
        return io.BytesIO(text.removeprefix("\ufeff").encode("utf-8"))

    @property
    def _is_gzip(self) -> bool:
        return (self.member or self.path.name).endswith(".gz")


@contextmanager
def open_archives(sources: Sequence[TextSource]) -> Iterator[Archives]:
    """Open each archive among the sources once, because reading its directory is slow."""
    with ExitStack() as stack:
        paths = dict.fromkeys(s.path for s in sources if s.member is not None)
        yield {path: stack.enter_context(zipfile.ZipFile(path)) for path in paths}


def find_sources(
    path: str | os.PathLike[str],
    glob: str,
    root: str | os.PathLike[str] | None,
    encoding: str = "utf-8",
) -> list[TextSource]:
    """Return the file `path`, or the files in a folder or zip archive that match `glob`, sorted.

    Hidden files and those of the system (`.DS_Store`, `__MACOSX`) are left out, unless `glob`
    names a hidden folder.

    Args:
        path: as it is, else under the data root.
        glob: as in `Path.glob`: `*` within a name, `**` for any number of folders.
        root: the data root.
        encoding: of the texts, a name that Python knows.

    Raises:
        MissingDataError: when there is no such file, or when no file matches.
        ValueError: when an archive or a gzip file is broken, a text has another encoding, or
            Python does not know it.
    """
    encoding = codec_name(encoding)
    under_root = data_root(root) / path
    found = Path(path).expanduser()
    found = found if found.exists() else under_root
    if found.suffix == ".zip" and found.is_file():
        sources = _members(found, glob)
    elif found.is_file():
        return [TextSource.of_file(found).with_encoding(encoding)]
    else:
        files = sorted(file for file in found.glob(glob) if file.is_file())
        sources = [
            TextSource.of_file(file)
            for file in files
            if not _is_hidden(file.relative_to(found).parts, glob)
        ]
    if not sources:
        raise MissingDataError(
            f"path: got {os.fspath(path)!r}, but neither {Path(path).absolute()} nor "
            f"{under_root.absolute()} is a text file or a folder or zip archive with files "
            f"{glob!r}; put the text there, or set root or the variable GRAPHFORMER_DATA"
        )
    return [source.with_encoding(encoding) for source in sources]


def codec_name(encoding: str) -> str:
    """Return Python's name of an encoding; "utf-8-sig" is "utf-8", which ignores the mark anyway.

    Raises:
        ValueError: when Python does not know it.
    """
    try:
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except LookupError:
        raise ValueError(
            f"encoding: got {encoding!r}, expected a name that Python knows, such as 'utf-16'"
        ) from None


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
                for position in range(first, last, _CHUNK):
                    yield file.read(min(_CHUNK, last - position))


def character_boundary(sources: Sequence[TextSource], position: int) -> int:
    """Return the first position from `position` on where a UTF-8 character may begin."""
    for byte in b"".join(read_bytes(sources, position, position + 4)):
        if byte & 0xC0 != 0x80:  # bytes 10xxxxxx continue a character
            break
        position += 1
    return position


def fingerprint(sources: Sequence[TextSource], start: int, stop: int) -> str:
    """Return the SHA-256 of bytes `start` to `stop` of the sources, in hexadecimal."""
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
    """Yield the text between two bytes in pieces, each with whether a document ends after it.

    Args:
        sources: joined by newlines, unless each is a document.
        start, stop: the range in bytes.
        documents: "file", "line" or "paragraph" (between blank lines); None: one document.
        raw: keep bytes that are not UTF-8, as surrogates, and keep line ends.

    Raises:
        ValueError: when bytes are not UTF-8 and `raw` is false.
    """
    if documents != "file":
        for text in _texts(sources, start, stop, raw=raw, blank=documents == "paragraph"):
            yield from _split(text, documents)
        return
    offset = 0
    with open_archives(sources) as opened:
        for source in sources:
            first, last = max(start - offset, 0), min(stop - offset, source.size)
            offset += source.size + 1
            previous = None
            for text in _texts([source], first, last, raw=raw, opened=opened):
                if previous is not None:
                    yield previous, False
                previous = text
            if previous is not None:
                yield previous, True


def _split(text: str, documents: DocumentUnit | None) -> Iterator[tuple[str, bool]]:
    if documents is None:
        yield text, False
        return
    for document in re.split(r"\n" if documents == "line" else r"\n[ \t\r]*\n", text):
        if document.strip():
            yield document.strip("\n"), True


def _texts(
    sources: Sequence[TextSource],
    start: int,
    stop: int,
    *,
    raw: bool,
    blank: bool = False,
    opened: Archives | None = None,
) -> Iterator[str]:
    """Yield the text in pieces that end after a newline, or after a blank line."""
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
        # Some editors begin a file with a byte order mark; it is not text.
        return data.decode("utf-8").replace("\r\n", "\n").replace("\ufeff", "")
    except UnicodeDecodeError as error:
        offset = position + error.start
        for source in sources:
            if offset < source.size:
                break
            offset -= source.size + 1
        raise ValueError(
            f"{source.name} is not UTF-8 text (byte {offset}); set the data's encoding, convert "
            "it, or use vocabulary 'bytes'"
        ) from None


@lru_cache(maxsize=1024)
def _decompressed_size(file: Path, size: int, modified: int) -> int:
    """Return the bytes in a gzip file; read once for a file of this size and time of change."""
    return _read_size(TextSource(file, None, 0))


def _read_size(source: TextSource) -> int:
    with source.open() as file:
        return sum(len(piece) for piece in iter(lambda: file.read(_CHUNK), b""))


def _members(archive: Path, glob: str) -> list[TextSource]:
    try:
        with zipfile.ZipFile(archive) as opened:
            sizes = {i.filename: i.file_size for i in opened.infolist() if not i.is_dir()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a readable zip archive: {error}") from None
    sources = []
    for parts in sorted(name.split("/") for name in sizes):  # the order of paths in a folder
        if not _matches(parts, glob.split("/")) or _is_hidden(parts, glob):
            continue
        name = "/".join(parts)
        source = TextSource(archive, name, sizes[name])
        if name.endswith(".gz"):
            source = TextSource(archive, name, _read_size(source))
        sources.append(source)
    return sources


def _matches(parts: Sequence[str], globs: Sequence[str]) -> bool:
    """Whether a path matches a glob as in `Path.glob`, both given as their parts."""
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_matches(parts[i:], globs[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _matches(parts[1:], globs[1:])


def _is_hidden(parts: Sequence[str], glob: str) -> bool:
    """Whether a file is hidden or the system's, unless the glob names a hidden folder itself."""
    names_hidden = any(part.startswith(".") for part in glob.split("/"))
    return not names_hidden and any(p.startswith(".") or p == "__MACOSX" for p in parts)
