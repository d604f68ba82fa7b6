"""Folders of raw data and of the cache, locks between processes, and downloads."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen


class MissingDataError(FileNotFoundError):
    """A data file does not exist and cannot be downloaded; the message says where to put it."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of raw data: `root`, else $GRAPHFORMER_DATA, else ./data."""
    return Path(root or os.environ.get("GRAPHFORMER_DATA") or "data").expanduser()


def cache_root() -> Path:
    """Return the folder of files computed from raw data: graphformer in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphformer"


def make_cache_folder(folder: Path) -> None:
    """Create a folder of the cache unless it exists.

    Raises:
        ValueError: when it cannot be created or is not writable.
    """
    reason = "permission denied"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        is_writable, reason = False, error.strerror or str(error)
    if not is_writable:
        raise ValueError(
            f"the cache folder {folder} is not writable ({reason.lower()}); set XDG_CACHE_HOME to "
            "a folder that is"
        )


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """Hold an exclusive lock between processes while the body runs, where the system has locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = cache_root() / "locks"
    make_cache_folder(folder)
    with (folder / name).open("w") as file:
        with suppress(OSError):  # some network file systems have no locks: the work is done twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def download(url: str, path: Path, *, md5: str | None = None, timeout: float = 30.0) -> None:
    """Download `url` to `path`, which appears when the file is complete and its checksum right.

    Args:
        url: of the file.
        path: where to put it; its folder is created.
        md5: expected checksum; None: unchecked.
        timeout: of the connection, in seconds.

    Raises:
        MissingDataError: when the address cannot be read, or when the checksum differs.
    """
    try:
        with (
            created_folder(path.parent),
            urlopen(url, timeout=timeout) as response,
            tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as out,
        ):
            partial = Path(out.name)
            try:
                shutil.copyfileobj(response, out)
                out.flush()
                _check_md5(partial, md5, url, path)
                partial.chmod(0o644)  # temporary files are readable by their owner only
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except MissingDataError:
        raise
    except (OSError, HTTPException) as error:
        raise MissingDataError(
            f"{path} does not exist and {url} cannot be downloaded ({error}); put the file there"
        ) from None


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create `folder` for the files of the body; if the body fails, remove new empty folders."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # a folder that is not empty stays
            for path in new:
                path.rmdir()
        raise


def _check_md5(file: Path, expected: str | None, url: str, path: Path) -> None:
    if expected is None:
        return
    found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    if found != expected:
        raise MissingDataError(
            f"{url}: got a file with MD5 {found}, expected {expected}; try again, or put the right "
            f"file at {path}"
        )
