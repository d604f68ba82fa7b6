"""Shipped and local YAML files by path and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.config import files
from graphformer.cli.errors import UsageError


def test_shipped_files_are_found_by_path_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "gat_cora.yaml"
    file.write_text("# GAT on Cora\nmodel: x\n")
    monkeypatch.setattr(files, "config_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path / "experiments")  # so that no such file is near
    for name in ("experiments/gat_cora.yaml", "gat_cora", str(file)):
        assert files.find_config(name) == file
    assert files.read_doc_line(file) == "GAT on Cora"
    with pytest.raises(UsageError, match=r"did you mean 'experiments/gat_cora.yaml'"):
        files.find_config("experiments/gat_coral.yaml")


def test_local_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text("")
    assert files.find_config("x.yaml") == Path("x.yaml")
