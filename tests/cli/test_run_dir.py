"""Folders of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphformer.cli.run_dir import make_run_folder


def test_run_folders_never_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    folders = [make_run_folder(tmp_path, "x") for _ in range(7)]
    assert len({*folders}) == 7
    assert all(folder.is_dir() and folder.parent == tmp_path / "x" for folder in folders)


def test_processes_of_one_run_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = make_run_folder(tmp_path, "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert make_run_folder(tmp_path, "x") == first
