"""A sharded checkpoint is replaced as a whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import lightning.pytorch.strategies.model_parallel as lightning_module
import pytest
import torch
from helpers.parallel_runs import build
from helpers.processes import run_ranks
from helpers.tasks import trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from graphformer.distributed import atomic_save
from graphformer.distributed.checkpoint import is_sharded, read_sharded


def saves(folder: Path, *, is_sharded: bool = True) -> str:
    """Save three times: whole, failing in the middle, and with other weights."""
    task, data = build("text", 3, 23)
    strategy = ModelParallelStrategy(
        data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=is_sharded
    )
    fitted = trainer(max_steps=1, limit_val_batches=0, strategy=strategy, devices=2)
    fitted.fit(task, datamodule=data)
    path = folder / "last.ckpt"
    fitted.save_checkpoint(path)
    fitted.save_checkpoint(folder / "first.ckpt")
    if not is_sharded:
        return ""
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(1.0)
    write, message = lightning_module._distributed_checkpoint_save, ""

    def fail(state: dict[str, Any], path: Path) -> None:
        write(state, path)
        raise OSError(errno.ENOSPC, "No space left on device", "a file")

    lightning_module._distributed_checkpoint_save = fail
    try:
        fitted.save_checkpoint(path)
    except OSError as error:
        message = str(error)
    lightning_module._distributed_checkpoint_save = write
    fitted.strategy.barrier()
    torch.save(read_sharded(path), folder / f"kept-{fitted.global_rank}")
    left = folder / ".last.ckpt.partial"  # as a killed process leaves it
    if fitted.is_global_zero:
        assert not left.exists()
        left.mkdir()
        (left / "__7_0.distcp").write_bytes(b"?")
    fitted.strategy.barrier()
    fitted.save_checkpoint(path)
    return message


def states(path: Path) -> dict[str, torch.Tensor]:
    return read_sharded(path)["state_dict"]


@pytest.mark.slow
def test_a_failed_save_keeps_the_checkpoint(tmp_path: Path) -> None:
    tmp_path = tmp_path / "checkpoints"
    messages = run_ranks(saves, 2, tmp_path)
    expected = f"[Errno {errno.ENOSPC}] No space left on device: '{tmp_path / 'last.ckpt'}'"
    assert messages == [expected, expected]
    first = states(tmp_path / "first.ckpt")
    kept = torch.load(tmp_path / "kept-0")["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in first.items())
    last = states(tmp_path / "last.ckpt")
    for name, value in first.items():
        torch.testing.assert_close(last[name], value + 1.0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"first.ckpt", "last.ckpt", "kept-0", "kept-1"}


def whole_saves(folder: Path) -> str:
    return saves(folder, is_sharded=False)


@pytest.mark.slow
def test_a_file_replaces_a_folder(tmp_path: Path) -> None:
    tmp_path = tmp_path / "checkpoints"
    (tmp_path / "last.ckpt").mkdir(parents=True)
    for name in (".metadata", "meta.pt"):
        (tmp_path / "last.ckpt" / name).write_bytes(b"")
    assert is_sharded(tmp_path / "last.ckpt")
    run_ranks(whole_saves, 2, tmp_path)
    assert "state_dict" in torch.load(tmp_path / "last.ckpt")
    assert sorted(os.listdir(tmp_path)) == ["first.ckpt", "last.ckpt"]


@pytest.mark.parametrize("can_exchange", [False, True])
def test_folders_and_files_replace_one_another(
    can_exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic_save, "_exchange", lambda first, second: False)

    def make(name: str, *, is_folder: bool) -> Path:
        path = tmp_path / name
        if is_folder:
            path.mkdir()
            (path / name).write_text("a")
        else:
            path.write_text("a")
        return path

    for number, (new, old) in enumerate([(a, b) for a in (False, True) for b in (False, True)]):
        path = make(f"old{number}", is_folder=old)
        atomic_save._replace(make(f"new{number}", is_folder=new), path)
        assert path.is_dir() == new
        assert (path / f"new{number}").exists() == new
    atomic_save._replace(make("new", is_folder=True), tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "absent",
        "old0",
        "old1",
        "old2",
        "old3",
    ]
