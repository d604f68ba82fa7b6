"""Optional sizes, nulls, names of classes, and settings of earlier releases."""

from __future__ import annotations

import argparse
import inspect
from contextlib import suppress
from typing import Any

import pytest
import torch

from graphformer import models
from graphformer.cli import main
from graphformer.cli.config.parser import Parser, import_object
from graphformer.cli.config.renamed import report_renamed
from graphformer.models import gat
from graphformer.tasks import Task

NETWORK = "--model.network"
GAT = ["--model", "Classification", NETWORK, "graphformer.models.gat"]


def task_parser() -> Parser:
    parser = Parser()
    parser.add_subclass_arguments(Task, "model", fail_untyped=False)
    return parser


def network_of(parsed: Any) -> Any:
    return parsed.model.init_args.network.init_args


def test_sizes_are_optional_and_other_arguments_required():
    parser = task_parser()
    assert network_of(parser.parse_args(GAT)).num_features is None
    with pytest.raises(argparse.ArgumentError, match="radius"):
        parser.parse_args([*GAT, "--model.adjacency", "Window"])


def test_a_function_of_its_own_has_optional_sizes_too():
    parser = Parser()
    parser.add_function_arguments(gat)
    assert parser.parse_args(["--depth", "3"]).num_features is None


def test_errors_are_raised_and_abbreviations_refused():
    with pytest.raises(argparse.ArgumentError):
        task_parser().parse_args([*GAT, "--model.warmup", "3"])


def test_null_replaces_a_nested_value():
    parser = task_parser()
    parsed = parser.parse_args([*GAT, f"{NETWORK}.pool", "sum"])
    assert network_of(parsed).pool == "sum"
    parsed = parser.parse_args([f"{NETWORK}.pool", "null"], namespace=parsed)
    assert network_of(parsed).pool is None


def test_words_may_come_from_sys_argv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["prog", *GAT, f"{NETWORK}.depth", "5"])
    assert network_of(task_parser().parse_args()).depth == 5


def test_import_object():
    assert import_object("graphformer.models.gat") is gat


@pytest.mark.parametrize("prefix", [NETWORK, f"{NETWORK}.init_args"])
@pytest.mark.parametrize("form", [["num_edge_kinds", "3"], ["num_edge_kinds=3"]])
def test_flags_of_an_earlier_release(
    prefix: str, form: list[str], capsys: pytest.CaptureFixture[str]
):
    first, *rest = form
    parsed = task_parser().parse_args([*GAT, f"{prefix}.{first}", *rest])
    assert network_of(parsed).num_union_parts == 3
    report_renamed()
    line = "settings of an earlier release: gat: num_edge_kinds -> num_union_parts\n"
    assert capsys.readouterr().err == f"graphformer: {line}"
    report_renamed()
    assert capsys.readouterr().err == ""


def test_stored_settings_of_an_earlier_release(capsys: pytest.CaptureFixture[str]):
    network = {"class_path": "graphformer.models.gat", "init_args": {"num_edge_kinds": 3}}
    settings = {"class_path": "Classification", "init_args": {"network": network}}
    parsed = task_parser().parse_object({"model": settings})
    assert network_of(parsed).num_union_parts == 3
    # A second mapping changes the first, as a second file or the settings after a checkpoint do.
    change = {"init_args": {"network": {"init_args": {"num_edge_kinds": 5}}}}
    changed = task_parser().parse_object({"model": change}, parsed)
    assert network_of(changed).num_union_parts == 5
    report_renamed()
    assert capsys.readouterr().err.count("num_union_parts") == 1


def test_restructured_settings_of_an_earlier_release(capsys: pytest.CaptureFixture[str]):
    old = {"num_features": 75, "patch_size": 5, "channels": [7, 11], "stem": "convolutional"}
    network = {"class_path": "graphformer.models.vit", "init_args": old}
    settings = {"class_path": "Classification", "init_args": {"network": network}}
    parsed = network_of(task_parser().parse_object({"model": settings}))
    assert (parsed.channels, parsed.patch_size, parsed.stem_channels) == (3, 5, [7, 11])
    report_renamed()
    assert "vit: num_features, channels -> stem_channels, channels" in capsys.readouterr().err


def test_restructured_flags_of_an_earlier_release(capsys: pytest.CaptureFixture[str]):
    words = ["--model", "Classification", NETWORK, "graphformer.models.vit"]
    sizes = [f"{NETWORK}.patch_size", "5", f"{NETWORK}.num_features", "75"]
    parsed = network_of(task_parser().parse_args([*words, *sizes]))
    assert (parsed.channels, parsed.patch_size) == (3, 5)
    report_renamed()
    assert "vit: num_features -> channels" in capsys.readouterr().err


def test_settings_without_a_value_are_not_reported(capsys: pytest.CaptureFixture[str]):
    network = {"class_path": "graphformer.models.vit", "init_args": {"channels": None}}
    settings = {"class_path": "Classification", "init_args": {"network": network}}
    task_parser().parse_object({"model": settings})
    report_renamed()
    assert capsys.readouterr().err == ""


def test_a_word_keeps_its_type_where_nothing_is_converted():
    parser = task_parser()
    words = ["--model", "Classification", NETWORK, "graphformer.models.vit"]
    channels = f"{NETWORK}.channels"
    assert network_of(parser.parse_args([*words, channels, "3"])).channels == 3
    parsed = network_of(parser.parse_args([*words, channels, "[7,11]"]))
    assert parsed.stem_channels == [7, 11]
    report_renamed()


REQUIRED = {
    "vocab_size": 11, "num_features": 3, "num_classes": 2, "channels": 1, "patch_size": 2,
    "patch_frames": 2, "num_node_types": 2, "num_edge_types": 3, "num_words": 13,
}  # fmt: skip
SMALL = {"dim": 8, "depth": 1, "num_heads": 2}
BUILDERS = [
    name
    for name in models.__all__
    if name[0].islower() and name not in ("encode", "generate", "search")
]


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_accept_the_defaults_that_the_parser_fills_in(name: str) -> None:
    parameters = inspect.signature(getattr(models, name)).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    arguments = {key: value for key, value in REQUIRED.items() if key in parameters}
    arguments |= {key: value for key, value in SMALL.items() if key in parameters or open_ended}
    parser = Parser()
    parser.add_argument("--net", type=torch.nn.Module)
    path = f"graphformer.models.{name}"
    parsed = parser.parse_object({"net": {"class_path": path, "init_args": arguments}})
    assert isinstance(parser.instantiate(parsed).net, torch.nn.Module)


def test_help_names_what_graphformer_has(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        main(["fit", "--model.help", "Classification"])
    shown = capsys.readouterr().out
    words = shown.replace(",", " ").replace(";", " ").split()
    for name in ("gat", "vit", "text_classifier", "Edges", "Window"):
        assert name in words
    assert "torch.nn" not in shown
    assert len(shown.splitlines()) < 150
