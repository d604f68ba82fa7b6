"""The figure of measured patterns."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import image

from graphformer.cli.plots.tradeoff import _pareto_front, _separate, draw_tradeoff
from graphformer.cli.tradeoff import Measurement


def measurement(milliseconds: float, quality: float, *, length: int = 7) -> Measurement:
    name = f"{milliseconds} {quality}"
    return Measurement(name, length, quality, edges=3.0, milliseconds=milliseconds, memory=11)


def test_the_front_has_no_surpassed_point():
    points = [measurement(*pair) for pair in ((5, 0.9), (2, 0.5), (3, 0.4), (2, 0.3), (7, 0.8))]
    front = _pareto_front(points, "accuracy")
    assert [(m.milliseconds, m.quality) for m in front] == [(2, 0.5), (5, 0.9)]
    front = _pareto_front(points, "perplexity")
    assert [(m.milliseconds, m.quality) for m in front] == [(2, 0.3)]


def test_labels_are_apart_and_in_order():
    heights = _separate([0.0, 1.0, 0.99, 0.98], gap=0.1)
    assert heights == pytest.approx([0.0, 1.0, 0.9, 0.8])
    assert _separate([3.0, 3.0]) == pytest.approx([3.0, 2.915])


def test_the_figure_is_written(tmp_path: Path):
    points = [measurement(m, q, length=n) for m, q in ((5, 0.9), (2, 0.5)) for n in (7, 13)]
    draw_tradeoff(points, "cosine", "title", tmp_path / "a.png")
    pixels = image.imread(tmp_path / "a.png")
    assert pixels.shape[1] > pixels.shape[0] > 500
    assert pixels.std() > 0.05
