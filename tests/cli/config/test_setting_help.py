"""Help of networks, tasks, patterns and data modules by name."""

from __future__ import annotations

import pytest

from graphformer.cli import main
from graphformer.cli.config.setting_help import setting_help
from graphformer.cli.errors import UsageError


@pytest.mark.parametrize(
    ("option", "name", "setting"),
    [
        ("--model.network.help", "vit", "--model.network.patch_size"),  # a function
        ("--model.network.help", "graphformer.models.GCN", "--model.network.layers"),  # a class
        ("--model.help", "Regression", "--model.lr"),
        ("--adjacency.help", "Window", "--model.adjacency.radius"),
        ("--data.help", "NodeFile", "--data.path"),
        ("--model.network.help", "torch.nn.Linear", "--model.network.in_features"),
    ],
)
def test_functions_and_classes_have_help(option: str, name: str, setting: str) -> None:
    text = setting_help(["fit", option, name])
    assert text is not None
    assert f"\n  {setting} " in text
    assert "Unvalidated" not in text


def test_sizes_of_the_data_are_not_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model.network.help=vit"]) == 0
    text = capsys.readouterr().out
    assert "required" not in text
    assert "Taken from the data unless given: num_classes, channels, patch_size." in text


def test_without_a_name_all_are_listed() -> None:
    text = setting_help(["predict", "--model.network.help"])
    assert text is not None
    assert "\n  vit  " in text
    assert setting_help(["fit", "--trainer.callbacks.help", "EarlyStopping"]) is None


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--model.help", "vit", "one of networks, expected one of tasks; ask --model.network.help"),
        ("--model.network.help", "graph_transfomer", "did you mean 'graph_transformer'"),
        ("--data.help", "qqq", "--data.help lists all"),
        ("--data.help", "torch.nn.Foo", "check its path"),
        ("--data.help", "torch.pi", "got torch.pi, expected a class or a function"),
    ],
)
def test_another_name_is_refused(option: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        setting_help(["fit", option, name])
