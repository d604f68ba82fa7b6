"""The demo end to end with a few steps, and what it measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib import image

from graphformer.cli import main
from graphformer.cli.profiling import forward_backward, peak_memory


def test_the_demo_ends_with_a_table_a_sample_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--budget", "0.001", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in ("complete", "grid 1", "causal", "window 16", "none", "edges", "bits", "%"):
        assert words in shown
    assert shown.count("def ") >= 2  # the prompt of both samples
    picture = image.imread(tmp_path / "demo.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.1  # not an empty sheet


@pytest.mark.parametrize("wrong", [["--budget", "0"], ["--budget", "many"], ["--bugdet", "1"]])
def test_wrong_usage_is_one_line_and_exit_code_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *wrong]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_peak_memory_sees_what_lives_at_once_and_not_what_is_freed() -> None:
    x = torch.randn(1009, 1013)
    size = x.numel() * x.element_size()

    def one_after_another() -> None:
        for _ in range(5):
            x + 1

    def all_at_once() -> None:
        [x + i for i in range(5)]

    assert size <= peak_memory(one_after_another) < 1.5 * size
    assert 5 * size <= peak_memory(all_at_once) < 5.5 * size


def test_forward_backward_leaves_gradients() -> None:
    linear = torch.nn.Linear(7, 5)
    forward_backward(lambda: linear(torch.ones(3, 7)))()
    assert linear.weight.grad is not None
