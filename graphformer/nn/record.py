"""What the attention modules of a network attended to: recorded, and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency
from graphformer.patterns import resolve_single


class AttentionRecord(NamedTuple):
    """The attention of one module in one call."""

    name: str
    """The module's name in the network."""
    adjacency: Adjacency
    weights: Tensor
    """[E, H], in the order of the adjacency's edges, with their history."""


@contextmanager
def record_attention(network: nn.Module) -> Iterator[list[AttentionRecord]]:
    """Record the weights of every attention module that is called within a `with` block.

    Works for modules of `graphformer.nn` wherever they are in the network, whose answers stay as
    they are. While recording, attention runs on backends that can return weights.
    """
    found: list[AttentionRecord] = []
    handles = []
    for name, module in network.named_modules():
        if "return_weights" in signature(module.forward).parameters:
            asked: list[bool] = []
            handles.append(module.register_forward_pre_hook(_ask(asked), with_kwargs=True))
            handles.append(
                module.register_forward_hook(_keep(name, asked, found), with_kwargs=True)
            )
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _ask(asked: list[bool]) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        asked.append(bool(kwargs.get("return_weights")))
        return args, {**kwargs, "return_weights": True}

    return hook


def _keep(name: str, asked: list[bool], found: list[AttentionRecord]) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any, result: tuple[Tensor, Tensor]) -> Any:
        bound = signature(module.forward).bind(*args, **kwargs).arguments
        x, edges, source = bound["x"], bound["adjacency"], bound.get("source")
        source, x = x if isinstance(x, tuple) else (x if source is None else source, x)
        edges = resolve_single(edges, num_nodes=(len(x), len(source)), device=x.device)
        found.append(AttentionRecord(name, edges, result[1]))
        return result if asked.pop() else result[0]

    return hook


def draw_attention(
    adjacency: Adjacency,
    weights: Tensor,
    path: str | Path,
    *,
    labels: list[str] | None = None,
    positions: Tensor | None = None,
    most_edges: int = 2_000,
) -> None:
    """Draw a small graph whose arrows are the wider and darker, the more attention they carry.

    Args:
        adjacency: N x N.
        weights: one an edge, [E], or one an edge and head, [E, H], which are averaged.
        path: the picture to write; its ending says which kind.
        labels: what to write on the nodes; their numbers by default.
        positions: where the nodes are, [N, 2]; by a spring layout by default.
        most_edges: draw no more than these, the strongest.

    Raises ValueError for a bipartite adjacency and for another number of weights than edges.
    """
    targets, sources = adjacency.shape
    if targets != sources:
        raise ValueError(f"adjacency must be square to be drawn, got {targets} x {sources}")
    if len(weights) != adjacency.num_edges:
        raise ValueError(
            f"weights must have one of the {adjacency.num_edges} edges a row, got "
            f"shape {tuple(weights.shape)}"
        )
    import networkx
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mean = weights.detach().float().cpu()
    mean = mean if mean.ndim == 1 else mean.mean(1)
    graph = adjacency.to_networkx(edges={"weight": mean})
    strongest = sorted(graph.edges(data="weight"), key=lambda edge: edge[2])[-most_edges:]
    if positions is None:
        place = networkx.spring_layout(graph, weight=None, seed=0)
    else:
        place = dict(enumerate(positions.tolist()))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    networkx.draw_networkx_nodes(graph, place, ax=axes, node_color="#dde6ee", node_size=260)
    names = dict(enumerate(labels)) if labels is not None else None
    networkx.draw_networkx_labels(graph, place, names, ax=axes, font_size=8)
    strength = [weight for *_, weight in strongest]
    top = max(strength, default=0) or 1
    drawn = networkx.draw_networkx_edges(
        graph,
        place,
        edgelist=[(source, target) for source, target, _ in strongest],
        ax=axes,
        width=[0.3 + 3 * weight / top for weight in strength],
        edge_color=strength,
        edge_cmap=_colours(),
        edge_vmin=-0.25 * top,  # so that the weakest can be seen
        edge_vmax=top,
        connectionstyle="arc3,rad=0.12",
        node_size=260,
    )
    if drawn:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(-0.25 * top, top), _colours())
        bar = figure.colorbar(scale, ax=axes, shrink=0.7, label="attention")
        bar.ax.set_ylim(0, top)
    axes.set_axis_off()
    figure.savefig(path, dpi=150)


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"]


def weights_on_edges(recorded: list[AttentionRecord], edge_index: Tensor) -> list[Tensor]:
    """The weights of each recorded attention on given edges [2, E], [E, H]; 0 for absent ones."""
    source, target = edge_index.long()
    laid = []
    for record in recorded:
        number = record.adjacency.find_edges(target, source)
        present = (number >= 0).unsqueeze(1)
        laid.append(torch.where(present, record.weights[number.clamp(min=0)], 0))
    return laid
