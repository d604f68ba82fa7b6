"""Settings and options of earlier releases."""

from __future__ import annotations

import pytest

from graphformer.cli.config.renamed import rename_option, report_renamed, upgrade
from graphformer.models import gat, gcn, vit


def reported(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    report_renamed()
    return capsys.readouterr().err


def test_settings_are_renamed_and_reported_once(capsys: pytest.CaptureFixture[str]):
    assert upgrade(gat, {"num_edge_kinds": 3, "dim": 5}) == {"num_union_parts": 3, "dim": 5}
    assert "gat: num_edge_kinds -> num_union_parts\n" in reported(capsys)
    assert reported(capsys) == ""


def test_words_keep_their_type_unless_they_are_converted(capsys: pytest.CaptureFixture[str]):
    assert upgrade(vit, {"channels": "3"}) == {"channels": "3"}
    assert upgrade(vit, {"channels": "[3, 5]"}) == {"stem_channels": [3, 5]}
    assert "vit: channels -> stem_channels" in reported(capsys)


@pytest.mark.parametrize("separator", ["=", ".x="])
def test_options_are_renamed(separator: str, capsys: pytest.CaptureFixture[str]):
    new = rename_option(gat, f"--num_edge_kinds{separator}7")
    assert new == f"--num_union_parts{separator}7"
    assert rename_option(gat, f"--dim{separator}7") == f"--dim{separator}7"
    assert "num_union_parts" in reported(capsys)


def test_settings_are_converted_with_those_that_they_change(capsys: pytest.CaptureFixture[str]):
    known = {"patch_size": 5, "dim": 128, "depth": 3}
    assert upgrade(vit, {"num_features": "75"}, known) == {"channels": 3}
    assert "vit: num_features -> channels\n" in reported(capsys)
    alone = {"channels": 75, "patch_size": 1}
    assert upgrade(vit, {"num_features": "75"}, {"patch_size": None}) == alone
    assert upgrade(gcn, {"residual": True}, {"jump": "last"}) == {"jump": "cat"}
    reported(capsys)


def test_other_settings_are_unchanged(capsys: pytest.CaptureFixture[str]):
    for target, settings in ((vit, {"dim": "7"}), (vit, {"nonsense": 7}), (gat, {"dim": 7})):
        assert upgrade(target, settings, {"depth": 3}) == settings
    assert reported(capsys) == ""
