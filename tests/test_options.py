"""Options that are passed on: misspelt names are refused, jsonargparse finds all of them."""

from __future__ import annotations

import inspect
from typing import TypedDict

import pytest
from jsonargparse import ArgumentParser
from typing_extensions import Unpack

from graphformer.deprecated import renamed_keywords
from graphformer.options import checked_options, suggestion


class TrunkOptions(TypedDict, total=False):
    depth: int
    dropout: float


def trunk(depth: int = 3, dropout: float = 0.5) -> tuple[int, float]:
    """Return both."""
    return depth, dropout


@renamed_keywords(layers="depth")
@checked_options
def build(width: int, *, tied: bool = True, **options: Unpack[TrunkOptions]) -> tuple[int, float]:
    """Build a trunk."""
    return trunk(**options)


class Net:
    @checked_options
    def __init__(self, width: int, **options: Unpack[TrunkOptions]) -> None:
        self.depth, self.dropout = trunk(**options)


def test_options_are_passed_on():
    assert build(2, tied=False, depth=5) == (5, 0.5)
    assert Net(2, dropout=0.25).dropout == 0.25


def test_old_names_are_renamed_before_the_check():
    with pytest.warns(FutureWarning, match="layers of build is now called depth"):
        assert build(2, layers=7) == (7, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dept": 5}, r"build\(\) got an unexpected option 'dept': did you mean 'depth'\?"),
        ({"tide": 5}, r"build\(\) got an unexpected option 'tide': did you mean 'tied'\?"),
        ({"xyz": 5}, r"unexpected option 'xyz': choose from depth, dropout, tied, width"),
    ],
)
def test_misspelt_option_is_refused_by_name(options: dict[str, int], message: str):
    with pytest.raises(TypeError, match=message):
        build(2, **options)


def test_class_is_named_without_its_constructor():
    with pytest.raises(TypeError, match=r"^Net\(\) got an unexpected option 'dropuot'"):
        Net(2, dropuot=0.5)


def test_missing_arguments_are_reported_as_ever():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'width'"):
        build(depth=3)


def test_jsonargparse_finds_defaults_behind_the_options():
    parser = ArgumentParser()
    parser.add_class_arguments(Net, "net")
    defaults = parser.get_defaults().net
    assert (defaults.depth, defaults.dropout) == (3, 0.5)
    assert parser.parse_args(["--net.width", "2", "--net.depth", "5"]).net.depth == 5


def test_signature_keeps_its_other_annotations():
    parameters = inspect.signature(Net).parameters
    assert parameters["width"].annotation == "int"
    assert parameters["options"].annotation is inspect.Parameter.empty


def test_suggestion():
    assert suggestion("Windwo", ["Window", "Grid"]) == ": did you mean 'Window'?"
    assert suggestion("GRID", ["Window", "Grid"]) == ": did you mean 'Grid'?"
    assert suggestion("xyz", ["b", "a"]) == ": choose from a, b"
    assert suggestion("xyz", []) == ""
    assert suggestion("xyz", [f"choice_{n}" for n in range(21)]) == ""
