"""Names of the nodes of a stored graph, and the numbers of nodes by their names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from graphformer.data.graph.kernels import names as kernels
from graphformer.data.graph.out_of_core.npy import NpyWriter, memory_map

NAME_FILES = ("name_text", "name_starts")
"""Names of the files: the texts end to end, and the start of each in bytes."""


class Texts(NamedTuple):
    """Texts in UTF-8.

    Attributes:
        text: bytes of all texts, uint8.
        starts: of each text and the end of the last, int64 [n + 1].
    """

    text: np.ndarray
    starts: np.ndarray

    def decode(self, index: int) -> str:
        """Return one of the texts."""
        start, stop = self.starts[index], self.starts[index + 1]
        return bytes(self.text[start:stop]).decode()


class NodeNames:
    """The names of nodes, in a folder; they are read from memory maps.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.texts = Texts(*(memory_map(folder / f"{name}.npy").numpy() for name in NAME_FILES))

    def __len__(self) -> int:
        return len(self.texts.starts) - 1

    def read(self, nodes: Tensor) -> list[str]:
        """Return the names of some nodes [n]."""
        return [self.texts.decode(node) for node in nodes.tolist()]


def write_names(folder: Path, parts: Iterable[Texts]) -> NodeNames:
    """Write names to files in a folder, in chunks."""
    text_path, starts_path = (folder / f"{name}.npy" for name in NAME_FILES)
    end = 0
    with NpyWriter(text_path, np.uint8) as text, NpyWriter(starts_path, np.int64) as starts:
        starts.append(np.zeros(1, np.int64))
        for part in parts:
            first, last = int(part.starts[0]), int(part.starts[-1])
            text.append(part.text[first:last])
            starts.append(part.starts[1:] - first + end)
            end += last - first
    return NodeNames(folder)


class NameIndex:
    """Finds the numbers of nodes by their names, with 8 to 16 bytes of memory a node.

    Args:
        names: of all nodes.

    Raises:
        ValueError: when two nodes have one name.
    """

    def __init__(self, names: NodeNames) -> None:
        self.names = names
        capacity = 1 << max(4, (2 * len(names)).bit_length())
        self._table = np.full(capacity, -1, np.int32 if len(names) < 2**31 else np.int64)
        repeated = kernels.insert_names(self._table, *names.texts)
        if repeated >= 0:
            name = names.texts.decode(repeated)
            raise ValueError(
                f"got the name {name!r} of a second node in row {repeated + 1}, expected a "
                "name for each node; remove repeated rows"
            )

    def find(self, texts: Texts) -> np.ndarray:
        """Return the number of each node that is named, int64 [n].

        Raises:
            ValueError: when there is no node of a name.
        """
        found: np.ndarray = kernels.find_names(self._table, *self.names.texts, *texts)
        if len(found) and found.min() < 0:
            name = texts.decode(int(found.argmin()))
            raise ValueError(
                f"got the node {name!r}, expected a name in the table of nodes; add it there, or "
                "remove the edge"
            )
        return found
