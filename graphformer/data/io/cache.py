"""Where raw files lie, where made files go, and how a missing file is fetched or reported."""

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
    """A data file is not there and could not be fetched; the message says where to put it."""


def data_root(root: str | None = None) -> Path:
    """Return the folder of raw data: `root`, else $GRAPHFORMER_DATA, else `data` in this folder."""
    return Path(root or os.environ.get("GRAPHFORMER_DATA") or "data").expanduser()


def cache_root() -> Path:
    """Return the folder for what is made from raw data: graphformer in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphformer"


def make_cache_folder(folder: Path) -> None:
    """Make a folder of the cache, if need be.

    Raises:
        ValueError: it cannot be made, or not be written to.
    """
    reason = "permission denied"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        is_writable, reason = False, error.strerror or str(error)
    if not is_writable:
        raise ValueError(
            f"the cache folder {folder} cannot be written to ({reason.lower()}): set "
            "XDG_CACHE_HOME to a folder that can."
        )


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let other processes that want to make what is called `name` wait, where the system can."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = cache_root() / "locks"
    make_cache_folder(folder)
    with (folder / name).open("w") as file:
        with suppress(OSError):  # some network file systems have no locks: then it is made twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def download(url: str, path: Path, *, md5: str | None = None, timeout: float = 30.0) -> None:
    """Fetch `url` into `path`, which appears only when it is whole and its checksum fits.

    Raises:
        MissingDataError: the address cannot be read, or what it gave has another checksum.
    """
    try:
        with (
            made_folder(path.parent),
            urlopen(url, timeout=timeout) as response,
            tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as out,
        ):
            partial = Path(out.name)
            try:
                shutil.copyfileobj(response, out)
                out.flush()
                _check_md5(partial, md5, url, path)
                partial.chmod(0o644)  # temporary files are for their owner only
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except MissingDataError:
        raise
    except (OSError, HTTPException) as error:
        raise MissingDataError(
            f"{path} is missing and {url} could not be fetched ({error}): put the file there."
        ) from None


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make `folder` for what the body puts there; should it fail, leave no empty folders behind."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # one that is not empty stays
            for path in new:
                path.rmdir()
        raise


def _check_md5(file: Path, expected: str | None, url: str, path: Path) -> None:
    if expected is None:
        return
    found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    if found != expected:
        raise MissingDataError(
            f"{url} gave a file with MD5 {found} where {expected} was expected, so it was not "
            f"kept: try again, or put the right file at {path}."
        )
