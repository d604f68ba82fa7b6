"""Recording of the attention weights of a network, and drawings of them."""

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
    """The attention weights of one module in one call."""

    name: str
    """The module's name in the network."""
    adjacency: Adjacency
    weights: Tensor
    """[E, H], in the order of the adjacency's edges, not detached."""


@contextmanager
def record_attention(network: nn.Module) -> Iterator[list[AttentionRecord]]:
    """Record the weights of all attention modules of a network within a `with` block.

    Attention modules are those whose `forward` has the argument `return_weights`. The outputs of
    the network do not change, but attention runs on backends that can return weights.

    Yields:
        The records, in the order of the calls.
    """
    records: list[AttentionRecord] = []
    handles = []
    for name, module in network.named_modules():
        if "return_weights" in signature(module.forward).parameters:
            requested: list[bool] = []
            before, after = _request_weights(requested), _record_weights(name, requested, records)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _request_weights(requested: list[bool]) -> Any:
    """Return a pre-hook that sets `return_weights`, and notes what the caller passed."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        requested.append(bool(kwargs.get("return_weights")))
        return args, {**kwargs, "return_weights": True}

    return hook


def _record_weights(name: str, requested: list[bool], records: list[AttentionRecord]) -> Any:
    """Return a hook that records the weights, and returns what the caller expects."""

    def hook(module: nn.Module, args: Any, kwargs: Any, result: tuple[Tensor, Tensor]) -> Any:
        bound = signature(module.forward).bind(*args, **kwargs).arguments
        x, edges, source = bound["x"], bound["adjacency"], bound.get("source")
        source, x = x if isinstance(x, tuple) else (x if source is None else source, x)
        edges = resolve_single(edges, num_nodes=(x.shape[0], source.shape[0]), device=x.device)
        records.append(AttentionRecord(name, edges, result[1]))
        return result if requested.pop() else result[0]

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
    """Draw a small graph, with wider and darker arrows for larger attention weights.

    Args:
        adjacency: N x N.
        weights: of the edges, [E], or [E, H] for the mean over heads.
        path: the file to write; its suffix selects the format.
        labels: labels of the nodes; their indices by default.
        positions: coordinates of the nodes, [N, 2]; a spring layout by default.
        most_edges: number of edges that are drawn at most, those with the largest weights.

    Raises:
        ValueError: when the adjacency is not square, or the number of weights is not E.
    """
    targets, sources = adjacency.shape
    if targets != sources:
        raise ValueError(f"adjacency: got {targets} x {sources}, expected a square one")
    if len(weights) != adjacency.num_edges:
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}, expected a row for each of the "
            f"{adjacency.num_edges} edges"
        )
    import networkx
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mean = weights.detach().float().cpu()
    mean = mean if mean.ndim == 1 else mean.mean(1)
    graph = adjacency.to_networkx(edges={"weight": mean})
    strongest = sorted(graph.edges(data="weight"), key=lambda edge: edge[2])[-most_edges:]
    if positions is None:
        layout = networkx.spring_layout(graph, weight=None, seed=0)
    else:
        layout = dict(enumerate(positions.tolist()))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    networkx.draw_networkx_nodes(graph, layout, ax=axes, node_color="#dde6ee", node_size=260)
    names = dict(enumerate(labels)) if labels is not None else None
    networkx.draw_networkx_labels(graph, layout, names, ax=axes, font_size=8)
    strength = [weight for *_, weight in strongest]
    top = max(strength, default=0) or 1
    arrows = networkx.draw_networkx_edges(
        graph,
        layout,
        edgelist=[(source, target) for source, target, _ in strongest],
        ax=axes,
        width=[0.3 + 3 * weight / top for weight in strength],
        edge_color=strength,
        edge_cmap=_colours(),
        edge_vmin=-0.25 * top,  # the smallest weights are not white
        edge_vmax=top,
        connectionstyle="arc3,rad=0.12",
        node_size=260,
    )
    if arrows:
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
    """Return the weights [E, H] of each record on given edges [2, E]; 0 for absent edges."""
    source, target = edge_index.long()
    aligned = []
    for record in recorded:
        edge = record.adjacency.find_edges(target, source)
        present = (edge >= 0).unsqueeze(1)
        aligned.append(torch.where(present, record.weights[edge.clamp(min=0)], 0))
    return aligned
