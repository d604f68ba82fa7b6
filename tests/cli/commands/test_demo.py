"""`graphformer demo` with a few steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from matplotlib import image
from sklearn import manifold

from graphformer.cli import main
from graphformer.cli.commands import demo


def test_the_demo_ends_with_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shorter texts and fewer steps of the picture's layout take a fifth of the time.
    monkeypatch.setattr(demo, "CHARACTERS", 1024)
    monkeypatch.setattr(manifold, "TSNE", partial(manifold.TSNE, max_iter=250))
    assert main(["demo", "--budget", "0.001", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "complete",
        "grid 1",
        "causal",
        "window 64",
        "longer",
        "none",
        "edges",
        "bits",
        "%",
    ):
        assert words in shown
    picture = image.imread(tmp_path / "demo.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.1  # not an empty sheet


@pytest.mark.parametrize("wrong", [["--budget", "0"], ["--budget", "many"], ["--bugdet", "1"]])
def test_wrong_usage_is_one_line_and_exit_code_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *wrong]) == 2
    assert "Traceback" not in capsys.readouterr().err
