"""Old argument and export names work and warn."""

from __future__ import annotations

import inspect
import sys
import types

import pytest

from graphformer.deprecated import (
    converted_arguments,
    renamed_attribute,
    renamed_exports,
    renamed_function,
    renamed_keywords,
    upgrade_settings,
)


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


def to_sides(old: dict[str, int]) -> dict[str, int] | None:
    if "area" not in old or "rows" in old:
        return None
    return {"rows": 3, "columns": old["area"] // 3, **{k: v for k, v in old.items() if k == "fill"}}


@renamed_keywords(value="fill")
@converted_arguments(to_sides, "area", "fill")
def table(fill: int = 0, *, rows: int, columns: int) -> tuple[int, int, int]:
    return rows, columns, fill


def test_an_old_form_is_converted_and_warns():
    assert table(2, rows=5, columns=7) == (5, 7, 2)
    for args, keywords in (((21,), {"fill": 2}), ((21, 2), {}), ((), {"area": 21, "fill": 2})):
        with pytest.warns(FutureWarning, match="area of table is now called rows and columns"):
            assert table(*args, **keywords) == (3, 7, 2)
    with pytest.raises(TypeError, match="missing 2 required"):
        table(fill=2)


def test_stored_settings_are_renamed_and_converted():
    assert upgrade_settings(table, {"area": 21, "value": 2}) == {"rows": 3, "columns": 7, "fill": 2}
    assert upgrade_settings(table, {"rows": 5, "value": 2}) == {"rows": 5, "fill": 2}
    assert upgrade_settings(build, {"size": 7}) == {"dim": 7}
    assert upgrade_settings(len, {"size": 7}) == {"size": 7}


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


def test_old_function_name_warns_and_works():
    with pytest.warns(FutureWarning, match=r"make is now called build; change it"):
        assert renamed_function("make", build)(dim=7) == 7
