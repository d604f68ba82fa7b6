"""Arrays in .npy files that are written in chunks and read as memory maps."""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self


class NpyWriter:
    """Writes an array to a .npy file in chunks of rows; a context manager.

    Writing by `write` and not through a memory map makes a full disk an error instead of a signal.

    Args:
        path: of the file.
        dtype: of the array.
        row_shape: shape of a row.
    """

    def __init__(
        self, path: Path, dtype: np.dtype | type[np.generic], row_shape: tuple[int, ...] = ()
    ) -> None:
        self.path, self.dtype, self.row_shape = path, np.dtype(dtype), row_shape
        self.rows = 0

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        self._write_header()
        return self

    def append(self, rows: np.ndarray) -> None:
        """Write rows [n, ...], converted to the dtype of the file.

        Raises:
            ValueError: when they have another shape than those before.
        """
        if rows.shape[1:] != self.row_shape:
            raise ValueError(
                f"{self.path.stem}: got rows of shape {rows.shape[1:]}, expected {self.row_shape} "
                "in all chunks"
            )
        self._file.write(np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data)
        self.rows += len(rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            start = self._size
            self._file.seek(0)
            self._write_header()  # of the same size: numpy leaves room for more rows
            assert self._size == start
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        self._size = self._file.tell()


def memory_map(path: Path, *, is_random: bool = False) -> Tensor:
    """Return the array of a .npy file as a tensor on a read-only memory map.

    Args:
        path: of the file.
        is_random: whether single rows are read in any order; the system then reads no more of the
            file than these.
    """
    array = np.load(path, mmap_mode="r")
    if not array.size:
        return torch.from_numpy(np.array(array))
    if is_random and hasattr(mmap, "MADV_RANDOM"):
        array._mmap.madvise(mmap.MADV_RANDOM)
    with warnings.catch_warnings():
        # Writing to the tensor would end the process; nothing writes to the fields of a graph.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def chunks(array: np.ndarray | Tensor, rows: int = 1 << 20) -> Iterator[np.ndarray]:
    """Yield an array, perhaps a memory map, in chunks of rows."""
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows])
