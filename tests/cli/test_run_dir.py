"""Folders of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from graphformer.cli import main
from graphformer.cli.run_dir import (
    AtomicCheckpointIO,
    atomic_file,
    is_first_process,
    make_run_folder,
    removed_if_unused,
    write_atomically,
)

LIMIT = 50_000
"""Bytes that a file may have under `small_files`."""


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the system refuse to write more than LIMIT bytes to a file."""
    resource = pytest.importorskip("resource", reason="needs a system with limits of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    with pytest.raises(Exception, match="local object"):
        AtomicCheckpointIO().save_checkpoint({"x": lambda: 3}, path)
    assert torch.load(path, weights_only=True)["x"].sum() == 3
    assert [each.name for each in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("size", [LIMIT // 4, 3 * LIMIT], ids=["at the end", "at once"])
def test_an_error_of_the_system_names_the_checkpoint_and_keeps_the_old_one(
    tmp_path: Path, small_files: None, size: int
):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(3)}, path)
    with pytest.raises(OSError, match="File too large") as raised:
        AtomicCheckpointIO().save_checkpoint({"x": torch.ones(size), "y": torch.ones(7)}, path)
    assert raised.value.filename == str(path)
    assert torch.load(path, weights_only=True)["x"].sum() == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path):
    missing = tmp_path / "missing.txt"
    with pytest.raises(FileNotFoundError) as raised, atomic_file(tmp_path / "a.txt") as file:
        file.write(missing.read_bytes())
    assert raised.value.filename == str(missing)
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_one_sentence(
    trained: object,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphformer.cli.run_dir.save_tensors", refuse)
    assert main(["fit", "-c", "tiny.yaml"]) == 2
    (folder,) = (workplace / "runs" / "tiny").iterdir()
    best = (folder / "checkpoints" / "best.ckpt").relative_to(workplace)
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(f"{best}: No space left on device")
    assert message.startswith("graphformer: ")
    assert not [*(folder / "checkpoints").iterdir()]


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_one_process_is_the_first(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for each in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "GRAPHFORMER_RUN_FOLDER"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
    assert not make_run_folder(tmp_path, "x").exists()
    assert not [*tmp_path.iterdir()]


def fail(folder: Path, around: list[Path]) -> None:
    with removed_if_unused([folder, *around]):
        raise ArithmeticError


def test_a_run_that_fails_before_it_has_results_is_removed(tmp_path: Path):
    root, experiment = tmp_path / "runs", tmp_path / "runs" / "x"
    first, second = experiment / "1", experiment / "2"
    first.mkdir(parents=True)
    (first / "config.yaml").write_text("")
    with pytest.raises(ArithmeticError):
        fail(first, [experiment, root])
    assert not root.exists()
    for folder in (first, second):
        folder.mkdir(parents=True)
    with pytest.raises(ArithmeticError):
        fail(first, [experiment, root])
    assert [*experiment.iterdir()] == [second]
    with pytest.raises(ArithmeticError):
        fail(second, [experiment])  # root is older than the run
    assert [*tmp_path.iterdir()] == [root]
    assert not [*root.iterdir()]


@pytest.mark.parametrize("file", ["metrics.csv", "checkpoints/last.ckpt"])
def test_a_run_with_results_is_kept(tmp_path: Path, file: str):
    path = tmp_path / "x" / file
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(ArithmeticError):
        fail(tmp_path / "x", [])
    assert path.exists()


def test_a_run_that_ends_is_kept(tmp_path: Path):
    with removed_if_unused([tmp_path]):
        pass
    assert tmp_path.exists()
