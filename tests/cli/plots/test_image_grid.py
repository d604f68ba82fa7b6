"""The grid of images: panels, heat maps, titles and frames."""

from __future__ import annotations

import numpy as np

from graphformer.cli.plots.image_grid import Panel, image_grid


def test_panels_are_drawn_in_rows():
    grey, colour = np.full((6, 4, 1), 0.25), np.full((6, 4, 3), 0.75)
    heat = np.arange(6.0).reshape(3, 2)
    rows = [
        [Panel(grey, title="first"), Panel(colour, heat=heat), Panel(grey)],
        [Panel(colour, frame="#c0392b")],
    ]
    figure = image_grid(rows, row_titles=["one", "two"])
    assert len(figure.axes) == 6
    assert [len(axes.images) for axes in figure.axes] == [1, 2, 1, 1, 0, 0]
    assert figure.axes[0].images[0].get_array().shape == (6, 4)
    assert figure.axes[1].images[0].get_array().shape == (6, 4, 3)
    assert np.array_equal(figure.axes[1].images[1].get_array(), heat)
    assert figure.axes[1].images[1].get_extent() == [-0.5, 3.5, 5.5, -0.5]
    assert figure.axes[0].get_title() == "first"
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["one", "two"]
    is_framed = [axes.spines["top"].get_visible() for axes in figure.axes]
    assert is_framed == [False, False, False, True, False, False]


def test_sentences_beside_rows_have_room():
    rows = [[Panel(np.zeros((2, 2, 1)))]]
    narrow, wide = (image_grid(rows, row_titles=["a"], wide_titles=w) for w in (False, True))
    assert wide.get_figwidth() > narrow.get_figwidth()
    assert wide.axes[0].yaxis.label.get_rotation() == 0
