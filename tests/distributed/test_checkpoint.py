"""Sharded checkpoints as one file: content, refusals, and no code of others."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from graphformer.cli.config.arguments import find_checkpoint
from graphformer.cli.errors import UsageError
from graphformer.distributed.checkpoint import is_sharded, read_sharded, whole_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, torch.optim.Optimizer]:
    """A folder as ModelParallelStrategy writes it, and what it contains."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    groups = [{"params": [network[1].weight, network[0].bias]}, {"params": [network[0].weight]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    network(torch.ones(7, 3)).square().sum().backward()
    optimizer.step()
    network[1].bias.requires_grad = False
    folder = tmp_path / "checkpoints" / "last.ckpt"
    state = {
        "state_dict": network.state_dict(),
        "optimizer_0": get_optimizer_state_dict(network, optimizer),
    }
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    torch.save({"epoch": 3}, folder / "meta.pt")
    return folder, network, optimizer


def test_the_content_is_that_of_one_process(
    saved: tuple[Path, nn.Module, torch.optim.Optimizer],
) -> None:
    folder, network, optimizer = saved
    assert is_sharded(folder)
    content = read_sharded(folder)
    assert content["epoch"] == 3
    for name, weight in network.state_dict().items():
        assert torch.equal(content["state_dict"][name], weight)
    (state,), expected = content["optimizer_states"], optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0, 1], [2]]
    assert state["state"].keys() == expected["state"].keys()
    for number, values in expected["state"].items():
        for name, value in values.items():
            assert torch.equal(state["state"][number][name], value)
    optimizer.load_state_dict(state)


def test_a_command_reads_the_file_beside_it(
    saved: tuple[Path, nn.Module, torch.optim.Optimizer],
) -> None:
    folder = saved[0]
    found = find_checkpoint(str(folder.parent.parent), "fit")
    assert found == folder.parent / "last.whole.ckpt" == find_checkpoint(str(folder), "test")
    assert torch.load(found, weights_only=True)["epoch"] == 3
    torch.save({"epoch": 4}, folder / "meta.pt")
    later = found.stat().st_mtime + 1
    os.utime(folder / ".metadata", (later, later))  # saved again
    assert torch.load(whole_checkpoint(folder), weights_only=True)["epoch"] == 4


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("where", [".metadata", "meta.pt", "__0_0.distcp"])
def test_code_in_a_folder_is_not_run(
    where: str,
    saved: tuple[Path, nn.Module, torch.optim.Optimizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved[0]
    if where == ".metadata":
        (folder / where).write_bytes(pickle.dumps(Attack()))
    elif where == "meta.pt":
        torch.save({"epoch": Attack()}, folder / where)
    else:
        dcp.save({"state_dict": {"a": Attack()}}, checkpoint_id=folder, no_dist=True)
    with pytest.raises(UsageError, match=r"last.ckpt: got a folder that is no readable checkpoint"):
        find_checkpoint(str(folder), "fit")
    assert not Path("attacked").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["last.ckpt"]


def test_a_damaged_folder_is_refused(
    saved: tuple[Path, nn.Module, torch.optim.Optimizer],
) -> None:
    folder = saved[0]
    (folder / "__0_0.distcp").unlink()
    with pytest.raises(ValueError, match="got a folder that is no readable checkpoint"):
        whole_checkpoint(folder)
