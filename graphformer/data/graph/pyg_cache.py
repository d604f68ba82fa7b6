"""PyG's own data sets, with raw files in the data root and processed files in the cache folder."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict
from zipfile import BadZipFile

import torch_geometric
from aiohttp import ClientError
from torch_geometric.data import InMemoryDataset
from typing_extensions import Unpack

from graphformer.data.io.cache import (
    MissingDataError,
    cache_root,
    created_folder,
    make_cache_folder,
)


class DatasetOptions(TypedDict, total=False):
    """The arguments, beside `root`, of the PyG data sets that are used here."""

    name: str
    split: str
    use_node_attr: bool
    use_edge_attr: bool


def load_pyg(
    dataset_class: type[InMemoryDataset],
    root: Path,
    folder: str,
    files: list[str],
    *,
    check: Callable[[Path], None] | None = None,
    **options: Unpack[DatasetOptions],
) -> InMemoryDataset:
    """Return `dataset_class(path, **options)`, whose raw files are in `root`/`folder`/raw.

    PyG writes a folder `processed` next to `raw`. Here it is written to the user's cache folder,
    under a hash of the raw files, so that raw data may be read-only and a change of a raw file is
    noticed. PyG downloads the raw files if one of `files` is missing.

    Args:
        dataset_class: a data set of `torch_geometric.datasets`.
        root: folder of the collection.
        folder: name of the data set's folder in it.
        files: names of the raw files that must exist.
        check: called with the raw folder before PyG processes its files; raises ValueError for a
            malformed file.
        options: the data set's own arguments.

    Raises:
        MissingDataError: when a raw file is missing and cannot be downloaded.
        ValueError: when PyG cannot read the raw files.
    """
    raw = (root / folder / "raw").absolute()
    missing = [file for file in files if not (raw / file).is_file()]
    cache = cache_root() / "pyg"
    if missing or not (path := cache / _key(dataset_class, raw, options)).is_dir():
        make_cache_folder(cache)
        build = Path(tempfile.mkdtemp(dir=cache, prefix="building-"))
        try:
            if check is not None and not missing:
                check(raw)
            _build(dataset_class, build / folder, raw, missing, options)
            path = cache / _key(dataset_class, raw, options)
            with suppress(OSError):  # another process has written the same folder meanwhile
                build.rename(path)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return dataset_class(str(path), **options)


def collection_root(root: Path, name: str, folder: str) -> Path:
    """Return `root` if it holds the data set's folder itself, else its subfolder `name`."""
    return root if (root / folder / "raw").is_dir() else root / name


def _build(
    dataset_class: type[InMemoryDataset],
    path: Path,
    raw: Path,
    missing: list[str],
    options: DatasetOptions,
) -> None:
    """Let PyG process the raw files below `path`, and download those that are missing."""
    path.mkdir()
    link = path / "raw"  # PyG downloads through it into the data root
    link.symlink_to(raw, target_is_directory=True)
    if not missing:
        _process(dataset_class, path.parent, raw, options)
        return
    try:
        with created_folder(raw):
            _process(dataset_class, path.parent, raw, options)
    except (OSError, ClientError, asyncio.TimeoutError, BadZipFile) as error:
        raise MissingDataError(
            f"{raw} lacks {', '.join(missing)}, and the download failed ({error}): put the raw "
            "files there."
        ) from None


def _process(
    dataset_class: type[InMemoryDataset], path: Path, raw: Path, options: DatasetOptions
) -> None:
    try:
        dataset_class(str(path), **options)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError | BadZipFile):
            raise
        raise ValueError(
            f"{raw}: got raw files that {dataset_class.__name__} cannot read "
            f"({type(error).__name__}: {error}), expected its published format; restore the files"
        ) from error


def _key(dataset_class: type[InMemoryDataset], raw: Path, options: DatasetOptions) -> str:
    """Return a hash of the raw files' sizes and times, the data set and PyG's version."""
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(raw.iterdir())]
    what = (
        str(raw),
        stats,
        dataset_class.__name__,
        sorted(options.items()),
        torch_geometric.__version__,
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:24]
