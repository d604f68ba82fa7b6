"""Pictures of attributions: images with a heat map, coloured tokens, and drawn graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from graphformer.trust.plots import COLORS, TEXT, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_COLUMNS = 3
"""Drawn graphs in a row."""


def scaled(attribution: Tensor) -> np.ndarray:
    """Return attributions divided by the largest absolute one, from -1 to 1, [N]."""
    values = attribution.detach().double().nan_to_num(neginf=0.0).numpy()
    largest = float(np.abs(values).max(initial=0.0))
    return values / largest if largest else values


def text_picture(tokens: Sequence[str], attributions: Mapping[str, Tensor]) -> str:
    """Return HTML: a line of tokens for each method, on a ground as strong as their attribution.

    Args:
        tokens: text of each node.
        attributions: method -> [N].
    """
    lines = []
    for name, attribution in attributions.items():
        spans = [
            f'<span style="background:rgba({"224,128,58" if v > 0 else "76,141,214"},'
            f'{abs(v):.2f})">{escape(token)}</span>'
            for token, v in zip(tokens, scaled(attribution).tolist(), strict=True)
        ]
        lines.append(f"<p><em>{escape(name)}</em><br>{' '.join(spans)}</p>")
    return f'<div class="tokens">{"".join(lines)}</div>'


def image_picture(
    image: np.ndarray, shape: tuple[int, int], attributions: Mapping[str, Tensor]
) -> str:
    """Return SVG: the image, and for each method a map of its patches.

    Args:
        image: pixels from 0 to 1, [height, width, 1 or 3].
        shape: rows and columns of patches.
        attributions: method -> [rows * columns].
    """
    figure = new_figure((1.7 * (1 + len(attributions)), 2.0))
    panels = figure.subplots(1, 1 + len(attributions))
    panels[0].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
    _title(panels[0], "image")
    for axes, (name, attribution) in zip(panels[1:], attributions.items(), strict=True):
        axes.imshow(scaled(attribution).reshape(shape), cmap="RdBu_r", vmin=-1, vmax=1)
        _title(axes, name)
    return to_svg(figure)


def graph_picture(
    edge_index: Tensor, attributions: Mapping[str, Tensor], *, marked: int | None = None
) -> str:
    """Return SVG: the graph for each method, with nodes coloured by their attribution.

    Args:
        edge_index: [2, E] of at most some hundred nodes.
        attributions: method -> [N].
        marked: a node with a thick outline.
    """
    import networkx

    count = len(next(iter(attributions.values())))
    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edge_index.T.tolist())
    layout = networkx.spring_layout(graph, seed=0)
    rows = -(-len(attributions) // _COLUMNS)
    figure = new_figure((2.6 * _COLUMNS, 2.6 * rows))
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes in panels[len(attributions) :]:
        axes.set_axis_off()
    for axes, (name, attribution) in zip(panels, attributions.items(), strict=False):
        values = scaled(attribution)
        networkx.draw_networkx_edges(graph, layout, ax=axes, edge_color=COLORS[-1], width=0.8)
        style = {"cmap": "coolwarm", "vmin": -1, "vmax": 1, "node_size": 55}
        outlines = [2.0 if node == marked else 0.4 for node in range(count)]
        networkx.draw_networkx_nodes(
            graph,
            layout,
            ax=axes,
            node_color=values,
            edgecolors=COLORS[-1],
            linewidths=outlines,
            **style,
        )
        _title(axes, name)
    return to_svg(figure)


def nodes_around(node: int, edge_index: Tensor, reached: Tensor) -> Tensor:
    """Return a node, then those it can be reached from by their number of hops, int64.

    Args:
        node: the first one.
        edge_index: [2, E].
        reached: which nodes to return beside the first, bool [N].
    """
    source, target = edge_index
    hops = torch.full((len(reached),), -1)
    hops[node] = step = 0
    while len(new := source[(hops[target] == step) & (hops[source] < 0)]):
        step += 1
        hops[new] = step
    chosen = reached & (hops >= 0)
    chosen[node] = True
    nodes = chosen.nonzero()[:, 0]
    return nodes[hops[nodes].argsort(stable=True)]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text.replace(" of the ", "\nof the "), fontsize=7, color=TEXT)
    axes.set_axis_off()
