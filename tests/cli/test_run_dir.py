"""Folders of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphformer.cli.run_dir import (
    AtomicCheckpointIO,
    atomic_file,
    make_run_folder,
    write_atomically,
)


def test_run_folders_never_clash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    folders = [make_run_folder(tmp_path, "x") for _ in range(7)]
    assert len({*folders}) == 7
    assert all(folder.is_dir() and folder.parent == tmp_path / "x" for folder in folders)


def test_processes_of_one_run_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = make_run_folder(tmp_path, "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert make_run_folder(tmp_path, "x") == first


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_atomically(path, "one")
    with pytest.raises(TypeError, match="bytes-like"), atomic_file(path) as file:
        file.writelines([b"tw", "o"])
    assert path.read_text() == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    with atomic_file(path) as file:
        file.write(b"two")
    assert path.read_text() == "two"


def test_checkpoints_are_written_atomically(tmp_path: Path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(3)}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"x": lambda: 3}, path)
    assert torch.load(path, weights_only=True)["x"].sum() == 3
    assert [each.name for each in path.parent.iterdir()] == ["last.ckpt"]
