"""Records of data sets of the Hugging Face Hub, by its library `datasets` (extra `datasets`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from graphformer.data.io.cache import MissingDataError

_PREFIX = "hf:"
_OPTIONS = ("config", "split", "revision", "streaming", "take")
_ON_DISK = ("dataset_info.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class HubName:
    """A data set of the Hub: `hf:NAME?config=C&split=S&revision=R&streaming=true&take=N`.

    Attributes:
        name: of the data set, such as stanfordnlp/imdb; or a folder of files, or one that
            `save_to_disk` wrote.
        config: of the data set, such as sst2 of nyu-mll/glue; None for the only one.
        split: train by default; a part such as train[:1000] unless it is streamed.
        revision: branch, tag or commit.
        streaming: whether rows are read over the network as they are needed, without a download.
        take: number of rows from the beginning; None for all.
    """

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False
    take: int | None = None


def is_hub_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the name of a data set of the Hub, which begins with `hf:`."""
    return os.fspath(path).startswith(_PREFIX)


def parse_hub_name(path: str | os.PathLike[str]) -> HubName:
    """Return the parts of a name.

    Raises:
        ValueError: when it has no name, an unknown option, or a value of another type.
    """
    text = Path(path).as_posix()
    name, _, query = text.removeprefix(_PREFIX).partition("?")
    options: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in _OPTIONS or not value:
            raise ValueError(
                f"path: got {part!r} in {text}, expected options such as split=train, of "
                f"{', '.join(_OPTIONS)}"
            )
        options[key] = value
    if not name:
        raise ValueError(f"path: got {text!r}, expected a name behind {_PREFIX}")
    if "streaming" in options:
        if options["streaming"] not in ("true", "false"):
            raise ValueError(
                f"path: got streaming={options['streaming']} in {text}, expected true or false"
            )
        options["streaming"] = options["streaming"] == "true"
    if "take" in options:
        if not options["take"].isdigit():
            raise ValueError(f"path: got take={options['take']} in {text}, expected a number")
        options["take"] = int(options["take"])
    return HubName(name, **options)


def read_hub(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set of the Hub.

    Numbers of classes become their names, missing ones None; images are not decoded: they are
    {"bytes": ..., "path": ...}.

    Args:
        path: the name, see `HubName`.

    Raises:
        MissingDataError: when the data set can be neither found nor downloaded.
        ModuleNotFoundError: without the library `datasets`.
        ValueError: when there is no such configuration or split.
    """
    hub = parse_hub_name(path)
    rows = load_hub(hub)
    classes = {}
    for column, feature in (rows.features or {}).items():
        kind = type(feature).__name__
        if kind == "ClassLabel":
            classes[column] = feature.names
        elif kind == "Image":
            rows = rows.cast_column(column, type(feature)(decode=False))
    for row in islice(rows, hub.take):
        for column, names in classes.items():
            number = row[column]
            row[column] = names[number] if number is not None and number >= 0 else None
        yield row


def load_hub(hub: HubName) -> Any:
    """Return a data set as a `Dataset` or `IterableDataset` of the library `datasets`.

    Raises:
        MissingDataError: when the data set can be neither found nor downloaded.
        ModuleNotFoundError: without the library `datasets`.
        ValueError: when there is no such configuration or split.
    """
    try:
        datasets = import_module("datasets")
        load, load_from_disk = datasets.load_dataset, datasets.load_from_disk
    except (ModuleNotFoundError, AttributeError):  # a folder named so is an empty package
        raise ModuleNotFoundError(
            f"{hub.name}: data sets of the Hub need the library datasets; pip install "
            '"graphformer[datasets]"'
        ) from None
    folder = Path(hub.name)
    try:
        if any((folder / name).is_file() for name in _ON_DISK):
            found = load_from_disk(str(folder))
            found = found[hub.split] if hasattr(found, "keys") else found
            return found.to_iterable_dataset() if hub.streaming else found
        return load(
            hub.name,
            hub.config,
            split=hub.split,
            revision=hub.revision,
            streaming=hub.streaming,
        )
    except (ValueError, KeyError) as error:
        raise ValueError(f"{hub.name}: {_first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        raise MissingDataError(
            f"{hub.name}: the library datasets can neither find nor download it "
            f"({_first_line(error)}); check the name and the network"
        ) from error


def hub_fingerprint(path: Path) -> str | None:
    """Return what tells a state of a data set from another; None where only reading it tells.

    It is of the library's files; of a streamed data set the name, if it has a revision.
    """
    hub = parse_hub_name(path)
    if hub.streaming:
        return repr(hub) if hub.revision is not None else None
    files = [Path(file["filename"]) for file in load_hub(hub).cache_files]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return repr((hub, stats)) if stats else None


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
