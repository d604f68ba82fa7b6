"""Sizes of tasks and networks that the data defines."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
from jsonargparse import Namespace

from graphformer.cli.config.parser import Parser
from graphformer.cli.config.sizes import fill_sizes
from graphformer.cli.errors import UsageError
from graphformer.tasks import Task

DIGITS = ["--data", "Digits", "--data.patch_size", "4"]


def parse(*words: str) -> Namespace:
    parser = Parser()
    parser.add_subclass_arguments(Task, "model", fail_untyped=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data", fail_untyped=False)
    return parser.parse_args([*DIGITS, "--model", "Classification", *words])


def network(config: Namespace) -> Any:
    return config.model.init_args.network.init_args


def test_sizes_of_task_and_network_come_from_the_data():
    config = parse("--model.network", "graphformer.models.vit")
    data = fill_sizes(config.model, config.data)
    assert type(data).__name__ == "Digits"
    assert config.model.init_args.num_classes == 10
    assert (network(config).num_classes, network(config).patch_size) == (10, 4)
    assert network(config).channels == 1
    assert network(config).shape == (2, 2)


def test_given_sizes_are_kept_and_the_data_is_not_read():
    words = [f"--model.network.{name}" for name in ("num_classes", "channels", "patch_size")]
    config = parse(
        "--model.network",
        "graphformer.models.vit",
        *(word for pair in zip(words, ("7", "3", "2"), strict=True) for word in pair),
        *("--model.num_classes", "7"),
    )
    assert fill_sizes(config.model, config.data) is None
    assert network(config).num_classes == 7


def test_both_networks_of_a_task_are_filled():
    words = ("--model", "ReplacedTokenDetection", "--data", "StandardLibrary")
    networks = (
        word
        for name in ("network", "generator")
        for word in (f"--model.{name}", "graphformer.models.bert")
    )
    config = parse(*words, *networks)
    fill_sizes(config.model, config.data)
    sizes = [config.model.init_args[name].init_args.vocab_size for name in ("network", "generator")]
    assert sizes[0] == sizes[1] > 50


def test_a_size_that_the_data_does_not_define():
    config = parse("--model.network", "graphformer.models.language_model")
    message = (
        "language_model needs vocab_size, which Digits does not define: "
        "set --model.network.vocab_size, or choose other data"
    )
    with pytest.raises(UsageError, match=message):
        fill_sizes(config.model, config.data)
