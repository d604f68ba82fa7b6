"""Parquet and Arrow tables, as text data reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.data import LabelledText
from graphformer.data.io.tabular import read_records

ROWS = [{"text": f"text {i}", "label": "ab"[i % 2], "n": i} for i in range(23)]


def test_all_forms_have_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, ipc, parquet

    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    feather.write_feather(table, tmp_path / "a.feather")
    with ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:  # as `datasets` does
        stream.write_table(table, max_chunksize=5)
    for name in ("a.parquet", "a.feather", "a.arrow"):
        assert list(read_records(tmp_path / name)) == list(enumerate(ROWS, 1))
        data = LabelledText(str(tmp_path / name), vocabulary="bytes")
        data.setup()
        assert data.labels == ["a", "b"]
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    (tmp_path / "b.arrow").write_bytes(b"no arrow file")
    for name in ("b.parquet", "b.arrow"):
        with pytest.raises(ValueError, match=f"{name}: got no .* file"):
            list(read_records(tmp_path / name))


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"a.parquet: parquet files need pyarrow; pip"):
        list(read_records(tmp_path / "a.parquet"))
