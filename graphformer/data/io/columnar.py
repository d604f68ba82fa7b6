"""Columnar tables: Parquet, and Arrow files as Hugging Face's `datasets` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNAR = frozenset((".parquet", ".arrow", ".feather"))
_ROWS = 4096


def read_columnar(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, of which a part is in memory at a time.

    Raises:
        ModuleNotFoundError: without pyarrow.
        ValueError: when the file has another format.
    """
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f'{path}: {path.suffix[1:]} files need pyarrow; pip install "graphformer[parquet]"'
        ) from None
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                for part in file.iter_batches(_ROWS):
                    yield from part.to_pylist()
            return
        with pyarrow.memory_map(str(path)) as source:
            for part in _arrow_batches(ipc, pyarrow, source):
                yield from part.to_pylist()
    except pyarrow.ArrowException as error:
        line = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: got no {path.suffix[1:]} file ({line}); write it again"
        ) from None


def _arrow_batches(ipc: Any, pyarrow: Any, source: Any) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, or of a stream, which `datasets` writes."""
    try:
        reader = ipc.open_file(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        yield from ipc.open_stream(source)
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)
