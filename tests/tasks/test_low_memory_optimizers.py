"""Optimisers of other libraries: groups, state, absence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from graphformer.cli import main
from graphformer.tasks.optimization import make_optimizer, optimizer_class

OPTIONS = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.99)}


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(61, 127), nn.ReLU(), nn.Linear(127, 61))


def train(name: str) -> tuple[list[float], torch.optim.Optimizer]:
    """The losses of a few steps and the optimiser."""
    model = network()
    optimizer = make_optimizer(model, name, **OPTIONS)
    x, losses = torch.randn(31, 61, generator=torch.Generator().manual_seed(5)), []
    for _ in range(12):
        loss = (model(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer


def test_moments_of_8_bits_train_as_those_of_32() -> None:
    pytest.importorskip("bitsandbytes")
    exact, _ = train("adamw")
    losses, optimizer = train("adamw_8bit")
    assert losses[-1] < 0.7 * losses[0]
    assert losses == pytest.approx(exact, rel=0.05)
    states = [value for state in optimizer.state.values() for value in state.values()]
    narrow = [v for v in states if isinstance(v, torch.Tensor) and v.dtype == torch.uint8]
    assert len(narrow) == 4  # two moments of two matrices
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


@pytest.mark.parametrize(
    ("name", "packages"),
    [("adamw_8bit", "bitsandbytes or torchao"), ("adamw_offload", "torchao")],
)
def test_a_missing_library_is_named(
    name: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("bitsandbytes", "bitsandbytes.optim", "torchao", "torchao.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    expected = rf"optimizer: got '{name}', which needs the package {packages}; install it"
    with pytest.raises(ModuleNotFoundError, match=expected):
        make_optimizer(network(), name, **OPTIONS)


@pytest.mark.parametrize("name", ["sgd", "adamw_4bit", "adam_8bit"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="optimizer: got .*, expected one of adamw, adam"):
        optimizer_class(name)


def test_parameters_on_a_cpu_are_not_offloaded() -> None:
    pytest.importorskip("torchao")
    with pytest.raises(ValueError, match="optimizer: got 'adamw_offload' and parameters on cpu"):
        make_optimizer(network(), "adamw_offload", **OPTIONS)


def test_the_command_line_names_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("bitsandbytes", "bitsandbytes.optim", "torchao", "torchao.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    words = "fit --model Classification --model.network vit --model.network.dim 12 --data Digits"
    more = "--data.patch_size 4 --trainer.max_steps 1 --trainer.accelerator cpu"
    assert main([*words.split(), *more.split(), "--model.optimizer", "adamw_8bit"]) == 2
    shown = capsys.readouterr().err.strip()
    assert "needs the package bitsandbytes or torchao; install it with pip" in shown
    assert not list(tmp_path.glob("runs/*/*"))
