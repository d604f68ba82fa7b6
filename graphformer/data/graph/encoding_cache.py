"""Graph encodings cached on disk by the content of the graphs, computed by several processes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphformer.data.io.cache import cache_lock, cache_root, make_cache_folder

Graph = tuple[NDArray[np.int64], int]
"""edge_index [2, E] and the number of nodes."""
Fields = dict[str, Tensor]

_VERSION = 2  # part of the key; raise it with any change of the values of an encoding
_MAX_SERIAL_SECONDS = 2.0  # before other processes and a progress bar are worth their start


class FieldEncoding(Protocol):
    """An encoding whose `repr` names all of its settings: it is part of the cache key."""

    def fields(self, edge_index: NDArray[np.int64], num_nodes: int) -> Fields:
        """The fields of a graph with these edges, [2, E]."""
        ...


def cached_fields(
    encoding: FieldEncoding, graphs: Sequence[Graph], num_workers: int | None = None
) -> list[Fields]:
    """Return the fields of an encoding for each graph, read from the cache or computed and written.

    The file name is a hash of the encoding and the bytes of all graphs. The file is written in
    full before it gets that name; one that cannot be read is computed again. Of several processes
    that need the same file, one computes it and the others wait.

    Args:
        encoding: the encoding.
        graphs: the graphs.
        num_workers: number of processes; by default the number of cores, for slow encodings.
    """
    key = _key(encoding, graphs)
    path = cache_root() / "encodings" / f"{key}.safetensors"
    fields = _read(path, len(graphs))
    if fields is not None:
        return fields
    with cache_lock(key):
        fields = _read(path, len(graphs))  # another process may have written it meanwhile
        if fields is None:
            fields = _compute_all(encoding, graphs, num_workers)
            _save(_join(fields), path)
    return fields


def _read(path: Path, count: int) -> list[Fields] | None:
    """Return the fields in a file; None where it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        return _split(load_file(path), count)
    except SafetensorError:
        path.unlink(missing_ok=True)
        return None


def _key(encoding: FieldEncoding, graphs: Sequence[Graph]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {encoding!r}".encode())
    for edge_index, nodes in graphs:
        digest.update(f"{nodes} {edge_index.shape[1]} ".encode())
        digest.update(np.ascontiguousarray(edge_index).data)
    return digest.hexdigest()[:32]


def _compute_all(
    encoding: FieldEncoding, graphs: Sequence[Graph], num_workers: int | None
) -> list[Fields]:
    """Compute in this process at first, then in others, whose start takes seconds."""
    workers = joblib.cpu_count() if num_workers is None else num_workers
    done = [encoding.fields(*graph) for graph in graphs[:1]]  # compiles kernels: not timed
    start = time.monotonic()
    while len(done) < len(graphs) and time.monotonic() - start < _MAX_SERIAL_SECONDS:
        done.append(encoding.fields(*graphs[len(done)]))
    rest = graphs[len(done) :]
    if rest:
        console = Console(stderr=True)
        expected = (time.monotonic() - start) / max(len(done) - 1, 1) * len(rest)
        parallel = joblib.Parallel(
            workers if expected > 5 * _MAX_SERIAL_SECONDS else 1, return_as="generator"
        )
        results = parallel(joblib.delayed(encoding.fields)(*graph) for graph in rest)
        label = f"{type(encoding).__name__} of {len(graphs):,} graphs"
        hidden = not console.is_terminal
        done += track(results, label, total=len(rest), console=console, disable=hidden)
    return done


def _join(graphs: list[Fields]) -> dict[str, Tensor]:
    """Concatenate each field over the graphs, and add the sizes of its parts as `NAME.sizes`."""
    joined: dict[str, Tensor] = {}
    for name in graphs[0] if graphs else ():
        parts = [fields[name] for fields in graphs]
        axis = _axis(name)
        joined[name] = torch.cat(parts, dim=axis).contiguous()
        joined[f"{name}.sizes"] = torch.tensor([part.shape[axis] for part in parts])
    return joined


def _split(joined: dict[str, Tensor], count: int) -> list[Fields]:
    """Return the fields of each graph from what `_join` returned."""
    graphs: list[Fields] = [{} for _ in range(count)]
    for name in joined:
        if name.endswith(".sizes"):
            continue
        sizes = joined[f"{name}.sizes"].tolist()
        for fields, part in zip(graphs, joined[name].split(sizes, dim=_axis(name)), strict=True):
            fields[name] = part.clone()
    return graphs


def _axis(name: str) -> int:
    return -1 if "index" in name else 0  # PyG's rule for concatenation


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a temporary file and rename it, so that readers never see a part of it."""
    make_cache_folder(path.parent)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(descriptor)
    try:
        save_file(tensors, partial)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
