"""What a batch knows about its edges, as options of attention: biases, features, weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency, edge_values
from graphformer.nn.options import LayerOptions
from graphformer.patterns.fields import require_tensor


class PartBias(nn.Module):
    """A learned bias for each kind of edge of a union, 0 at first; those of several kinds add up.

    An adjacency that is no union has edges of one kind, for which a bias would change nothing:
    it gets none.

    Args:
        num_kinds: parts of the union that the model is for.
        num_heads: H.

    Source: Shirzad et al., 2023, "Exphormer", section 3.3.
    """

    def __init__(self, num_kinds: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_kinds, num_heads))

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor | None:
        """The bias of each edge, [E, H]; ValueError for a union of another number of parts."""
        if not adjacency.parts:
            return None
        if len(adjacency.parts) != len(self.table):
            raise ValueError(
                f"adjacency must be a union of {len(self.table)} kinds of edges, for which the "
                f"model was built, or no union; got one of {len(adjacency.parts)}"
            )
        return adjacency.part_mask.to(self.table.dtype) @ self.table


class TypeBias(nn.Module):
    """A learned bias for each type of edge in the data, 0 at first; edges without a type get 0.

    Args:
        num_types: how many types there are.
        num_heads: H.
    """

    def __init__(self, num_types: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_types, num_heads))

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """The bias of each edge, [E, H], from `batch.edge_type` [E'], integers."""
        types = require_tensor(batch, "edge_type", "the model has a bias for each type of edge")
        numbers = edge_values(adjacency, batch.edge_index, types + 1)
        return torch.cat([self.table.new_zeros(1, self.table.shape[1]), self.table])[numbers]


class FeatureBias(nn.Module):
    """A bias that is a linear map of the edges' features; edges without features get 0.

    Args:
        edge_dim: width F of the features.
        num_heads: H.
    """

    def __init__(self, edge_dim: int, num_heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(edge_dim, num_heads, bias=False)

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """The bias of each edge, [E, H]."""
        features = edge_features(batch, self.linear.in_features)
        return self.linear(edge_values(adjacency, batch.edge_index, features))


class DistanceBias(nn.Module):
    """A learned bias for each shortest-path distance between source and target, 0 at first.

    Pairs that are further apart than `max_distance`, or not connected, share one; so do those
    with a virtual node (`batch.virtual_mask`).

    Args:
        max_distance: D, as in the encoding `shortest_path:D`, whose `batch.path_index` [*, P] and
            `batch.path_length` [P] it reads.
        num_heads: H.

    Source: Ying et al., 2021, "Do transformers really perform badly for graph representation?",
    sections 3.1.2 and 3.2.
    """

    def __init__(self, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.zeros(max_distance + 3, num_heads))

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """The bias of each edge, [E, H]."""
        distance = distances(batch, adjacency, self.max_distance)
        virtual = getattr(batch, "virtual_mask", None)
        if virtual is not None:
            source, target = adjacency.edge_index
            touched = virtual[source] | virtual[target]
            distance = distance.masked_fill(touched, self.max_distance + 2)
        return self.table[distance]


class PathBias(nn.Module):
    r"""A bias from the features of the edges along a shortest path from source to target.

    .. math::
        c_{ij} = \frac{1}{L} \sum_{n=1}^{L} w_n \cdot e_n

    for the path's edges e_1 .. e_L; pairs without a path of at most `max_distance` edges get 0.

    Args:
        edge_dim: width F of the features.
        max_distance: the longest path D, as in the encoding `shortest_path:D`, whose
            `batch.path_index` [D + 1, P] and `batch.path_length` [P] it reads.
        num_heads: H.

    Source: Ying et al., 2021, section 3.1.3.
    """

    def __init__(self, edge_dim: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.steps = nn.Linear(edge_dim, max_distance * num_heads, bias=False)
        self.max_distance, self.num_heads = max_distance, num_heads

    def forward(self, batch: Any, adjacency: Adjacency) -> Tensor:
        """The bias of each edge, [E, H]."""
        paths, lengths = _paths(batch, self.max_distance, whole=True)
        features = edge_features(batch, self.steps.in_features)
        # Mapped once an edge and looked up a step: no [P, D, F] is made.
        mapped = self.steps(features.to(self.steps.weight.dtype))
        mapped = mapped.unflatten(1, (self.max_distance, self.num_heads))
        edges = _edge_rows(batch, paths)
        total = mapped.new_zeros(paths.shape[1], self.num_heads)
        for step in range(self.max_distance):
            walked = (step < lengths).nonzero().squeeze(1)
            total = total.index_add(0, walked, mapped[edges[step, walked], step])
        mean = total / lengths.clamp(min=1).unsqueeze(1)
        return edge_values(adjacency, paths[[0, -1]], mean)


class EdgeEncoder(nn.Module):
    """The options of attention that a batch's edges give: `bias`, `edge_attr`, `edge_weight`.

    Args:
        biases: called as `bias(batch, adjacency)` -> [E, H] or None; they add up.
        features: width of `batch.edge_attr`, which is passed on, zeros for edges that have none;
            0 to pass on nothing.
        weighted: whether to pass on `batch.edge_weight`, 1 for edges that have none.
    """

    def __init__(
        self, biases: Sequence[nn.Module] = (), *, features: int = 0, weighted: bool = False
    ) -> None:
        super().__init__()
        self.biases = nn.ModuleList(biases)
        self.features, self.weighted = features, weighted

    @property
    def empty(self) -> bool:
        """Whether there are no options, whatever the batch."""
        return not (self.biases or self.features or self.weighted)

    def forward(self, batch: Any, adjacency: Adjacency) -> LayerOptions:
        """The options for one adjacency, all aligned with its edges."""
        options: LayerOptions = {}
        biases = [bias for module in self.biases if (bias := module(batch, adjacency)) is not None]
        if biases:
            options["bias"] = torch.stack(biases).sum(0)
        if self.features:
            features = edge_features(batch, self.features)
            options["edge_attr"] = edge_values(adjacency, batch.edge_index, features)
        if self.weighted:
            weight = require_tensor(batch, "edge_weight", "the model has edge weights")
            options["edge_weight"] = edge_values(adjacency, batch.edge_index, weight, fill=1)
        return options


def edge_features(batch: Any, width: int) -> Tensor:
    """`batch.edge_attr`, [E', F]; ValueError where it is missing or has another width.

    Args:
        batch: a graph, or several; one feature an edge may be [E'].
        width: F of the model.
    """
    features = require_tensor(batch, "edge_attr", "the model has edge features")
    features = features.unsqueeze(1) if features.ndim == 1 else features
    if features.shape[1] != width:
        raise ValueError(
            f"batch.edge_attr has {features.shape[1]} columns, but the model was built for "
            f"num_edge_features={width}"
        )
    return features


def distances(batch: Any, adjacency: Adjacency, max_distance: int) -> Tensor:
    """The shortest-path distance of each edge, int64 [E]; max_distance + 1 where it is more."""
    paths, lengths = _paths(batch, max_distance, whole=False)
    near = lengths <= max_distance
    ends, lengths = paths[[0, -1]][:, near], lengths[near]
    return edge_values(adjacency, ends, lengths, fill=max_distance + 1)


def _paths(batch: Any, max_distance: int, *, whole: bool) -> tuple[Tensor, Tensor]:
    why = f"the model needs the encoding 'shortest_path:{max_distance}'"
    paths = require_tensor(batch, "path_index", why).long()
    lengths = require_tensor(batch, "path_length", why).long()
    if whole and len(paths) != max_distance + 1:
        raise ValueError(f"batch.path_index must have {max_distance + 1} rows: {why}")
    return paths, lengths


def _edge_rows(batch: Any, paths: Tensor) -> Tensor:
    """The number in `batch.edge_index` of the edge taken at each step of each path, [D, P]."""
    source, target = batch.edge_index.long()
    size = batch.num_nodes
    keys, order = (source * size + target).sort(stable=True)
    wanted_keys = paths[:-1] * size + paths[1:]
    place = torch.searchsorted(keys, wanted_keys.contiguous()).clamp(max=max(len(keys) - 1, 0))
    return order[place] if len(order) else torch.zeros_like(wanted_keys)
