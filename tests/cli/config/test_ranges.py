"""Ranges of numeric settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace, dict_to_namespace

from graphformer.cli.config import ranges
from graphformer.cli.config.ranges import check_ranges
from graphformer.cli.errors import UsageError

ROOT = Path(__file__).parents[3]


def settings(trainer: dict[str, Any] | None = None, **arguments: Any) -> Namespace:
    """Settings with arguments of a model's network, as parsed."""
    network = Namespace(class_path="graphformer.models.vit", init_args=Namespace(**arguments))
    model = Namespace(
        class_path="graphformer.tasks.Classification", init_args=Namespace(network=network)
    )
    devices = {"devices": "auto", "accelerator": "auto"}
    return Namespace(model=model, trainer=Namespace(**(devices | (trainer or {}))))


@pytest.mark.parametrize(
    "arguments",
    [
        {"dim": 1, "depth": 0, "dropout": 0.0},
        {"dropout": 1.0, "attention_dropout": 1, "mask_ratio": 0.5},
        {"lr": 1e-30, "betas": [0.0, 0.999]},
        {"max_epochs": -1, "max_steps": 1, "seed": 2**32 - 1},
        {"unknown": None, "depth": "many", "num_heads": True},
        {"unknown": -3, "weights": [-1.0, math.inf]},
        {"patch_size": (1, 2)},
    ],
    ids=str,
)
def test_numbers_in_their_range(arguments: dict[str, Any]):
    check_ranges(settings(**arguments))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dim", 0, "1 or more"),
        ("depth", -1, "0 or more"),
        ("max_epochs", -2, "-1 or more"),
        ("max_epochs", 0, "1 or more, or -1 for no limit"),
        ("max_length", math.inf, "a finite number"),
        ("seed", 2**32, f"at most {2**32 - 1}"),
        ("lr", 0.0, "a finite number above 0"),
        ("lr", math.inf, "a finite number above 0"),
        ("temperature", -0.1, "a finite number above 0"),
        ("mask_ratio", 1.1, "a number from 0 to 1"),
        ("dropout", -0.1, "a number from 0 to 1"),
        ("attention_dropout", 2, "a number from 0 to 1"),
        ("patch_size", (3, 0), "1 or more"),
        ("betas", [0.9, 1.0], "numbers from 0 to below 1"),
        ("unknown", math.nan, "a number"),
    ],
)
def test_numbers_out_of_range(name: str, value: Any, expected: str):
    with pytest.raises(UsageError) as raised:
        check_ranges(settings(**{name: value}))
    message = str(raised.value)
    assert message.startswith(f"model.network.{name}: got ")
    assert message.endswith(f", expected {expected}; change --model.network.{name}")


def test_numbers_in_lists_of_settings():
    several = [Namespace(monitor="x", patience=3), Namespace(monitor="y", patience=-1)]
    with pytest.raises(UsageError, match=r"^trainer.callbacks\[1\].patience: got -1"):
        check_ranges(settings({"callbacks": several}))


def test_null_for_an_argument_with_a_default():
    with pytest.raises(UsageError, match="^model.network.dropout: got null, expected a value"):
        check_ranges(settings(dropout=None))


def test_null_where_the_type_allows_it():
    data = Namespace(class_path="graphformer.data.MoleculeNet", init_args=Namespace(seed=None))
    check_ranges(Namespace(data=data, **vars(settings())))


SHIPPED = sorted([*(ROOT / "datasets").glob("*.yaml"), *(ROOT / "experiments").glob("*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_files_are_accepted(path: Path):
    shipped = yaml.safe_load(path.read_text())
    trainer = {"devices": "auto", "accelerator": "auto", **shipped.get("trainer", {})}
    check_ranges(dict_to_namespace({**shipped, "trainer": trainer}))


@pytest.mark.parametrize(
    ("devices", "accelerator", "is_refused"),
    [
        (5, "cpu", True), ("5", "cpu", True), (5, "auto", True), (3, "cpu", False),
        ("auto", "cpu", False), (5, "gpu", False), ([5], "cpu", False),
    ],
)  # fmt: skip
def test_processes_on_a_cpu(
    devices: Any, accelerator: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranges.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(ranges.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ranges.torch.backends.mps, "is_available", lambda: False)
    given = settings({"devices": devices, "accelerator": accelerator})
    if not is_refused:
        check_ranges(given)
        return
    with pytest.raises(UsageError, match="^trainer.devices: got 5, expected at most 3"):
        check_ranges(given)
    monkeypatch.setattr(ranges.os, "cpu_count", lambda: 5)
    check_ranges(given)
