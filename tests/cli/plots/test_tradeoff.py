"""The figure of measured patterns."""

from __future__ import annotations

from pathlib import Path

from matplotlib import image

from graphformer.cli.plots.tradeoff import _pareto_front, draw_tradeoff
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


def test_the_figure_is_written(tmp_path: Path):
    points = [measurement(m, q, length=n) for m, q in ((5, 0.9), (2, 0.5)) for n in (7, 13)]
    draw_tradeoff(points, "cosine", "title", tmp_path / "a.png")
    pixels = image.imread(tmp_path / "a.png")
    assert pixels.shape[1] > pixels.shape[0] > 500
    assert pixels.std() > 0.05


def test_an_outlier_has_a_logarithmic_axis(tmp_path: Path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        "graphformer.cli.plots.tradeoff.save_figure",
        lambda figure, *_, **__: figures.append(figure),
    )
    for worst in (3.9, 4.1):
        points = [measurement(1.0, 1.0), measurement(2.0, worst)]
        draw_tradeoff(points, "perplexity", "title", tmp_path / "a.png")
    assert [figure.axes[0].get_yscale() for figure in figures] == ["linear", "log"]
    assert [text.get_text()[0] for text in figures[0].legends[0].get_texts()] == ["1", "2"]
