"""Pictures of attributions: what they contain, and that markup in tokens is escaped."""

from __future__ import annotations

import numpy as np
import torch

from graphformer.trust.explanation.pictures import (
    graph_picture,
    image_picture,
    nodes_around,
    scaled,
    text_picture,
)


def test_attributions_are_scaled_by_the_largest():
    values = scaled(torch.tensor([1.0, -2.0, -torch.inf, 0.0]))
    assert values.tolist() == [0.5, -1, 0, 0]
    assert scaled(torch.zeros(3)).tolist() == [0, 0, 0]


def test_tokens_are_coloured_and_escaped():
    html = text_picture(["<b>", "good"], {"one & two": torch.tensor([-1.0, 0.5])})
    assert "&lt;b&gt;" in html
    assert "one &amp; two" in html
    assert "rgba(224,128,58,0.50)" in html
    assert "rgba(76,141,214,1.00)" in html


def test_images_and_graphs_are_svg():
    values = {name: torch.arange(6.0) for name in ("a", "b", "c", "d")}
    image = image_picture(np.zeros((4, 6, 1)), (2, 3), values)
    graph = graph_picture(torch.tensor([[0, 1, 2], [1, 2, 3]]), values)
    for markup in (image, graph):
        assert markup.startswith("<svg")
        assert markup.rstrip().endswith("</svg>")


def test_nodes_around_a_node_are_in_the_order_of_their_hops() -> None:
    # 4 -> 1 -> 3 -> 0, 2 -> 0; 5 -> 2 is not among the nodes to draw, 6 has no path to 0.
    edges = torch.tensor([[3, 1, 4, 2, 5, 0], [0, 3, 1, 0, 2, 6]])
    reached = torch.tensor([False, True, True, True, True, False, True])
    assert nodes_around(0, edges, reached).tolist() == [0, 2, 3, 1, 4]
