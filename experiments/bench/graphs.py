"""Random graphs for the benchmark: distinct edges, int64 [2, E], in random order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def uniform(nodes: int, degree: int, seed: int = 0) -> Tensor:
    """Return nodes * degree distinct edges, drawn uniformly."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        pair = torch.randint(nodes, (2, count), generator=generator)
        return pair[0], pair[1]

    return _distinct(draw, nodes, nodes * degree, generator)


def power_law(nodes: int, degree: int, seed: int = 0, hub_share: float = 0.0) -> Tensor:
    """Return nodes * degree edges with both ends drawn with probability ~ 1 / rank^0.8.

    Node 0 is the target of the share `hub_share` of all edges.

    Raises:
        ValueError: when the hub would have more edges than there are nodes.
    """
    generator = torch.Generator().manual_seed(seed)
    total = nodes * degree
    hub_edges = round(hub_share * total)
    if hub_edges > nodes:
        raise ValueError(
            f"hub_share: got {hub_edges} edges, expected at most {nodes}; use more nodes"
        )
    chance = 1 / torch.arange(1, nodes + 1, dtype=torch.float64).pow(0.8)
    limits = (chance / chance.sum()).cumsum(0)
    names = torch.randperm(
        nodes, generator=generator
    )  # so that neighbours in rank are not neighbours in memory

    def end(count: int) -> Tensor:
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        return names[torch.searchsorted(limits, drawn).clamp(max=nodes - 1)]

    def draw(count: int) -> tuple[Tensor, Tensor]:
        source, target = end(count), end(count)
        if hub_edges:
            others = target != 0
            source, target = source[others], target[others]
        return source, target

    rest = _distinct(draw, nodes, total - hub_edges, generator)
    sources = torch.randperm(nodes, generator=generator)[:hub_edges]
    hub = torch.stack([sources, torch.zeros_like(sources)])
    edges = torch.cat([rest, hub], dim=1)
    return edges[:, torch.randperm(total, generator=generator)]


LAWS: dict[str, Callable[..., Tensor]] = {"uniform": uniform, "power law": power_law}


def _distinct(
    draw: Callable[[int], tuple[Tensor, Tensor]],
    nodes: int,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    keys = torch.empty(0, dtype=torch.int64)
    while len(keys) < count:
        source, target = draw(int(1.1 * (count - len(keys))) + 16)
        keys = torch.cat([keys, target * nodes + source]).unique()
    keys = keys[torch.randperm(len(keys), generator=generator)[:count]]
    return torch.stack([keys % nodes, keys // nodes])
