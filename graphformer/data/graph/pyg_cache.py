"""PyG's own data sets, from raw files that may lie in a read-only folder."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch_geometric
from aiohttp import ClientError
from torch_geometric.data import InMemoryDataset

from graphformer.data.io.cache import MissingDataError, cache_root, made_folder, make_cache_folder


def load_pyg(
    kind: type[InMemoryDataset], root: Path, folder: str, files: list[str], **options: Any
) -> InMemoryDataset:
    """Return `kind(path, **options)`, a PyG data set whose raw files are `root`/`folder`/raw.

    PyG would write `processed` beside `raw`; here it goes to the user's cache folder, under a key
    made of the raw files, so that raw data may be read-only and is never out of step with it.
    Where one of the raw `files` is missing, PyG downloads them.

    Raises:
        MissingDataError: a file is missing and cannot be fetched.
    """
    raw = (root / folder / "raw").absolute()
    missing = [file for file in files if not (raw / file).is_file()]
    home = cache_root() / "pyg"
    if missing or not (made := home / _key(kind, raw, options)).is_dir():
        make_cache_folder(home)
        build = Path(tempfile.mkdtemp(dir=home, prefix="building-"))
        try:
            _build(kind, build / folder, raw, missing, options)
            made = home / _key(kind, raw, options)
            with suppress(OSError):  # another process was quicker, and made the same
                build.rename(made)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return kind(str(made), **options)


def collection_root(root: Path, name: str, folder: str) -> Path:
    """Return `root` where it holds the data set's own folder, else the collection in it."""
    return root if (root / folder / "raw").is_dir() else root / name


def _build(
    kind: type[InMemoryDataset], home: Path, raw: Path, missing: list[str], options: dict[str, Any]
) -> None:
    home.mkdir()
    link = home / "raw"  # through it PyG's downloads land in the data root
    link.symlink_to(raw, target_is_directory=True)
    if not missing:
        kind(str(home.parent), **options)
        return
    try:
        with made_folder(raw):
            kind(str(home.parent), **options)
    except (OSError, ClientError, asyncio.TimeoutError, BadZipFile) as error:
        raise MissingDataError(
            f"{raw} lacks {', '.join(missing)}, which could not be fetched ({error}): put the raw "
            "files there."
        ) from None


def _key(kind: type[InMemoryDataset], raw: Path, options: dict[str, Any]) -> str:
    """Return a name that changes with the raw files, the data set and PyG's version."""
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(raw.iterdir())]
    what = (str(raw), stats, kind.__name__, sorted(options.items()), torch_geometric.__version__)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:24]
