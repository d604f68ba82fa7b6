"""Old argument and export names work and warn."""

from __future__ import annotations

import inspect
import sys
import types

import pytest

from graphformer.deprecated import renamed_attribute, renamed_exports, renamed_keywords


@renamed_keywords(size="dim")
def build(dim: int = 3) -> int:
    return dim


def test_old_keyword_warns_and_works():
    with pytest.warns(FutureWarning, match="argument size of build is now called dim"):
        assert build(size=7) == 7
    assert build(dim=5) == 5
    assert list(inspect.signature(build).parameters) == ["dim"]


def test_both_keywords_are_refused():
    with pytest.raises(TypeError, match="dim: got size as well"):
        build(size=7, dim=5)


def test_old_export_warns_and_works(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("some_module")
    module.New = int
    module.__getattr__ = renamed_exports("some_module", {"Old": "New"})
    monkeypatch.setitem(sys.modules, "some_module", module)
    with pytest.warns(FutureWarning, match="some_module.Old is now called some_module.New"):
        assert module.Old is int
    with pytest.raises(AttributeError, match="no attribute 'Older'"):
        _ = module.Older


class Counter:
    old = renamed_attribute("count")

    def __init__(self, count: int) -> None:
        self.count = count


def test_old_attribute_warns_and_works():
    with pytest.warns(FutureWarning, match=r"Counter\.old is now called Counter\.count"):
        assert Counter(7).old == 7
    assert isinstance(Counter.old, renamed_attribute), "reading it from the class does not warn"
