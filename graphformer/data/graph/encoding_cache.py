"""Encodings on disk, found by the content of the graphs, and made by many processes at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphformer.data.io.cache import cache_root, make_cache_folder, one_at_a_time

Graph = tuple[NDArray[np.int64], int]
"""edge_index [2, E] and the number of nodes."""
Fields = dict[str, Tensor]

_VERSION = 1  # to be raised with any change of what an encoding gives
_MAX_SERIAL_SECONDS = 2.0  # seconds to work alone before other processes and a bar are worth it


def cached_fields(
    encoding: Any, graphs: Sequence[Graph], num_workers: int | None = None
) -> list[Fields]:
    """What an encoding gives for each graph: from the disk if it is there, else made and put there.

    The file is named after the encoding and the bytes of all graphs, and appears only when it is
    whole; one that cannot be read is made anew. Of several processes that want the same, one makes
    it and the others wait.

    Args:
        encoding: has `fields(edge_index, num_nodes)`, and a `repr` that tells its settings.
        graphs: the graphs.
        num_workers: processes; by default as many as there are cores, if it is worth it.
    """
    key = _key(encoding, graphs)
    path = cache_root() / "encodings" / f"{key}.safetensors"
    made = _read(path, len(graphs))
    if made is not None:
        return made
    with one_at_a_time(key):
        made = _read(path, len(graphs))  # which another process may have made meanwhile
        if made is None:
            made = _compute_all(encoding, graphs, num_workers)
            _save(_joined(made), path)
    return made


def _read(path: Path, count: int) -> list[Fields] | None:
    """What is on the disk; None if it is not there, or cannot be read."""
    if not path.is_file():
        return None
    try:
        return _split(load_file(path), count)
    except SafetensorError:
        path.unlink(missing_ok=True)
        return None


def _key(encoding: Any, graphs: Sequence[Graph]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {encoding!r}".encode())
    for edge_index, nodes in graphs:
        digest.update(f"{nodes} {edge_index.shape[1]} ".encode())
        digest.update(np.ascontiguousarray(edge_index).data)
    return digest.hexdigest()[:32]


def _compute_all(encoding: Any, graphs: Sequence[Graph], num_workers: int | None) -> list[Fields]:
    """Alone as long as that is quick, then with other processes, which take seconds to start."""
    workers = joblib.cpu_count() if num_workers is None else num_workers
    made = [encoding.fields(*graph) for graph in graphs[:1]]  # compiles, so that it tells no time
    start = time.monotonic()
    while len(made) < len(graphs) and time.monotonic() - start < _MAX_SERIAL_SECONDS:
        made.append(encoding.fields(*graphs[len(made)]))
    rest = graphs[len(made) :]
    if rest:
        console = Console(stderr=True)
        expected = (time.monotonic() - start) / max(len(made) - 1, 1) * len(rest)
        parallel = joblib.Parallel(
            workers if expected > 5 * _MAX_SERIAL_SECONDS else 1, return_as="generator"
        )
        results = parallel(joblib.delayed(encoding.fields)(*graph) for graph in rest)
        label = f"{type(encoding).__name__} of {len(graphs):,} graphs"
        hidden = not console.is_terminal
        made += track(results, label, total=len(rest), console=console, disable=hidden)
    return made


def _joined(made: list[Fields]) -> dict[str, Tensor]:
    """Each field of all graphs in one tensor, and the sizes of its parts."""
    joined: dict[str, Tensor] = {}
    for name in made[0] if made else ():
        parts = [fields[name] for fields in made]
        axis = _axis(name)
        joined[name] = torch.cat(parts, dim=axis).contiguous()
        joined[f"{name}.sizes"] = torch.tensor([part.shape[axis] for part in parts])
    return joined


def _split(joined: dict[str, Tensor], count: int) -> list[Fields]:
    made: list[Fields] = [{} for _ in range(count)]
    for name in joined:
        if name.endswith(".sizes"):
            continue
        sizes = joined[f"{name}.sizes"].tolist()
        for fields, part in zip(made, joined[name].split(sizes, dim=_axis(name)), strict=True):
            fields[name] = part.clone()
    return made


def _axis(name: str) -> int:
    return -1 if "index" in name else 0  # as PyG batches them


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file that appears only when it is whole."""
    make_cache_folder(path.parent)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(descriptor)
    try:
        save_file(tensors, partial)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
