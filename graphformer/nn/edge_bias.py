"""Biases, features and weights of edges from the fields of a batch, as options of attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from graphformer.adjacency import Adjacency, edge_values
from graphformer.nn.options import LayerOptions
from graphformer.patterns.fields import require_tensor

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


EdgeWeightMode = Literal["multiply", "log_bias"]
"""How edge weights enter attention: as factors of the logits, or by their logarithm as a bias."""


class PartBias(nn.Module):
    """A learned bias for each part of a union of adjacencies, 0 at first.

    The bias of an edge is the sum over the parts that it is in. An adjacency that is not a union
    has no bias, for one that all edges share would not change the softmax.

    Args:
        num_parts: number of parts of the unions.
        num_heads: H.

    Source: Shirzad et al., 2023, "Exphormer", section 3.3.
    """

    def __init__(self, num_parts: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_parts, num_heads))

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor | None:
        """Return the bias of each edge, [E, H]; None if the adjacency is not a union.

        Raises:
            ValueError: when the union has another number of parts.
        """
        if not adjacency.parts:
            return None
        if len(adjacency.parts) != len(self.table):
            raise ValueError(
                f"adjacency: got a union of {len(adjacency.parts)} parts, expected "
                f"{len(self.table)}, as the model was built for, or no union"
            )
        return adjacency.part_mask.to(self.table.dtype) @ self.table


class TypeBias(nn.Module):
    """A learned bias for each edge type of the data, 0 at first; 0 for edges not in the data.

    Args:
        num_types: number of edge types.
        num_heads: H.
    """

    def __init__(self, num_types: int, num_heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_types, num_heads))

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the bias of each edge, [E, H], from `batch.edge_type`, integers [E']."""
        types = require_tensor(batch, "edge_type", "the model has a bias for each type of edge")
        rows = edge_values(adjacency, batch.edge_index, types + 1)  # row 0: not in the data
        return torch.cat([self.table.new_zeros(1, self.table.shape[1]), self.table])[rows]


class FeatureBias(nn.Module):
    """A bias that is a linear map of the edge features; 0 for edges not in the data.

    Args:
        edge_dim: width F of the features.
        num_heads: H.
    """

    def __init__(self, edge_dim: int, num_heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(edge_dim, num_heads, bias=False)

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the bias of each edge, [E, H], from `batch.edge_attr` [E', F]."""
        features = edge_features(batch, self.linear.in_features)
        return self.linear(edge_values(adjacency, batch.edge_index, features))


class DistanceBias(nn.Module):
    """A learned bias for each shortest-path distance between source and target, 0 at first.

    Pairs at more than `max_distance`, or not connected, share one bias, and so do pairs with a
    virtual node (`batch.virtual_mask`).

    Args:
        max_distance: D of the encoding `shortest_path:D`, which stores `batch.path_index` [*, P]
            and `batch.path_length` [P].
        num_heads: H.

    Source: Ying et al., 2021, "Do transformers really perform badly for graph representation?",
    sections 3.1.2 and 3.2.
    """

    def __init__(self, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.zeros(max_distance + 3, num_heads))

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the bias of each edge, [E, H], from its distance."""
        distance = distances(batch, adjacency, self.max_distance)
        virtual = getattr(batch, "virtual_mask", None)
        if virtual is not None:
            source, target = adjacency.edge_index
            has_virtual = virtual[source] | virtual[target]
            distance = distance.masked_fill(has_virtual, self.max_distance + 2)
        return self.table[distance]


class PathBias(nn.Module):
    r"""A bias from the features of the edges along a shortest path from source to target.

    .. math::
        c_{ij} = \frac{1}{L} \sum_{n=1}^{L} w_n \cdot e_n

    for the path's edges e_1 .. e_L; 0 for pairs without a path of at most `max_distance` edges.

    Args:
        edge_dim: width F of the features.
        max_distance: D of the encoding `shortest_path:D`, which stores `batch.path_index`
            [D + 1, P] and `batch.path_length` [P].
        num_heads: H.

    Source: Ying et al., 2021, section 3.1.3.
    """

    def __init__(self, edge_dim: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.steps = nn.Linear(edge_dim, max_distance * num_heads, bias=False)
        self.max_distance, self.num_heads = max_distance, num_heads

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> Tensor:
        """Return the bias c of each edge, [E, H]."""
        paths, lengths = _paths(batch, self.max_distance, whole=True)
        features = edge_features(batch, self.steps.in_features)
        # w_n . e for all n and edges, [E', D, H], then looked up by step: so the features of
        # paths, [P, D, F], are never stored.
        mapped = self.steps(features.to(self.steps.weight.dtype))
        mapped = mapped.unflatten(1, (self.max_distance, self.num_heads))
        edges = _path_edges(batch, paths)
        total = mapped.new_zeros(paths.shape[1], self.num_heads)
        for step in range(self.max_distance):
            longer = (step < lengths).nonzero().squeeze(1)
            total = total.index_add(0, longer, mapped[edges[step, longer], step])
        mean = total / lengths.clamp(min=1).unsqueeze(1)
        return edge_values(adjacency, paths[[0, -1]], mean)


class TimeEncoding(nn.Module):
    """Features of the time since an event: cos(w t + b), with learned w and b.

    At first w are powers of 10 from 1 down to 10^-9, so that some features resolve any unit.

    Args:
        dim: number of features T.

    Source: Xu et al., 2020, "Inductive representation learning on temporal graphs", section 3.1;
    Cong et al., 2023 (initial values).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(10 ** torch.linspace(0, -9, dim))
        self.phase = nn.Parameter(torch.zeros(dim))

    def forward(self, elapsed: Tensor) -> Tensor:
        """Return the features [E, T] of times [E]."""
        return (elapsed.unsqueeze(1).to(self.phase) * self.frequency + self.phase).cos()

    def of_edges(self, batch: BatchLike) -> Tensor:
        """Return the features [E', T] of the time from each edge's event to its target's time.

        Raises:
            ValueError: when `batch.edge_time` or `batch.node_time` is absent.
        """
        why = "the model has features of time"
        event = require_tensor(batch, "edge_time", why)
        now = require_tensor(batch, "node_time", why)
        return self(now[batch.edge_index[1]] - event)


class EdgeEncoder(nn.Module):
    """The options of attention from a batch's edges: `bias`, `edge_attr` and `edge_weight`.

    Args:
        biases: called as `bias(batch, adjacency)` -> [E, H] or None; the bias is their sum.
        features: width of `batch.edge_attr`, which becomes `edge_attr`, zero for edges not in the
            data; 0 for no such option.
        time: of the time since each edge's event, whose features follow those of `edge_attr`.
        weighted: whether `batch.edge_weight` is read, 1 for edges not in the data.
        edge_weight_mode: "multiply" multiplies the logits by it; "log_bias" adds its logarithm, as
            `log_weight_bias`.

    Raises:
        ValueError: for an unknown `edge_weight_mode`.
    """

    def __init__(
        self,
        biases: Sequence[nn.Module] = (),
        *,
        features: int = 0,
        time: TimeEncoding | None = None,
        weighted: bool = False,
        edge_weight_mode: EdgeWeightMode = "multiply",
    ) -> None:
        super().__init__()
        if edge_weight_mode not in get_args(EdgeWeightMode):
            raise ValueError(
                f"edge_weight_mode: got {edge_weight_mode!r}, expected 'multiply' or 'log_bias'"
            )
        self.edge_weight_mode = edge_weight_mode
        self.biases = nn.ModuleList(biases)
        self.features, self.time, self.weighted = features, time, weighted

    @property
    def empty(self) -> bool:
        """Whether there are no options for any batch."""
        return not (self.biases or self.features or self.time or self.weighted)

    def forward(self, batch: BatchLike, adjacency: Adjacency) -> LayerOptions:
        """Return the options for one adjacency, in the order of its edges."""
        options: LayerOptions = {}
        biases = [bias for module in self.biases if (bias := module(batch, adjacency)) is not None]
        if self.weighted:
            weight = require_tensor(batch, "edge_weight", "the model has edge weights")
            weight = edge_values(adjacency, batch.edge_index, weight, fill=1)
            if self.edge_weight_mode == "multiply":
                options["edge_weight"] = weight
            else:
                biases.append(log_weight_bias(weight.reshape(len(weight), -1)))
        if biases:
            options["bias"] = sum(biases[1:], start=biases[0])
        parts = [edge_features(batch, self.features)] if self.features else []
        if self.time is not None:
            parts.append(self.time.of_edges(batch))
        if parts:
            features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            options["edge_attr"] = edge_values(adjacency, batch.edge_index, features)
        return options


def log_weight_bias(edge_weight: Tensor) -> Tensor:
    r"""Return log w for weights w >= 0, minus infinity for 0: a `bias` that scales the attention.

    With it the attention is proportional to w, and an edge of weight 0 is absent:

    .. math:: \alpha_{ij} \propto w_{ij} \exp(s\, q_i \cdot k_j)

    `edge_weight` of the attention functions multiplies the logits instead, so that an edge of
    weight 0 has the logit 0 and stays in the softmax.

    Args:
        edge_weight: w, of any shape; usually [E] or [E, H].

    Raises:
        ValueError: when a weight is negative or NaN.
    """
    is_invalid = ~(edge_weight.detach() >= 0)
    if bool(is_invalid.any()):
        value = edge_weight.detach()[is_invalid][0].item()
        raise ValueError(
            f"edge_weight: got {value}, expected numbers from 0 up for their logarithm; take "
            "edge_weight_mode='multiply' for weights that may be negative"
        )
    is_edge = edge_weight > 0
    # The inner `where` keeps the gradient at 0 finite.
    return torch.where(is_edge, torch.where(is_edge, edge_weight, 1).log(), -torch.inf)


def edge_features(batch: BatchLike, width: int) -> Tensor:
    """Return `batch.edge_attr` as [E', F].

    Args:
        batch: one or several graphs; a single feature per edge may be [E'].
        width: F of the model.

    Raises:
        ValueError: when it is absent, or has another width.
    """
    features = require_tensor(batch, "edge_attr", "the model has edge features")
    features = features.unsqueeze(1) if features.ndim == 1 else features
    if features.shape[1] != width:
        raise ValueError(
            f"batch.edge_attr: got {features.shape[1]} columns, expected {width}, as the model was "
            f"built for num_edge_features={width}"
        )
    return features


def distances(batch: BatchLike, adjacency: Adjacency, max_distance: int) -> Tensor:
    """Return the shortest-path distance of each edge, int64 [E]; max_distance + 1 if larger."""
    paths, lengths = _paths(batch, max_distance, whole=False)
    near = lengths <= max_distance
    ends, lengths = paths[[0, -1]][:, near], lengths[near]
    return edge_values(adjacency, ends, lengths, fill=max_distance + 1)


def _paths(batch: BatchLike, max_distance: int, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Return the nodes of shortest paths, int64 [*, P], and their lengths, int64 [P].

    With `whole` all D + 1 nodes are required; else only the first and the last row are read.
    """
    reason = f"the model needs the encoding 'shortest_path:{max_distance}'"
    paths = require_tensor(batch, "path_index", reason).long()
    lengths = require_tensor(batch, "path_length", reason).long()
    if whole and len(paths) != max_distance + 1:
        raise ValueError(
            f"batch.path_index: got {len(paths)} rows, expected {max_distance + 1}; {reason}"
        )
    return paths, lengths


def _path_edges(batch: BatchLike, paths: Tensor) -> Tensor:
    """Return the column of `batch.edge_index` of each step of each path, int64 [D, P]."""
    source, target = batch.edge_index.long()
    size = batch.num_nodes
    assert size is not None
    keys, order = (source * size + target).sort(stable=True)
    step_keys = paths[:-1] * size + paths[1:]
    rank = torch.searchsorted(keys, step_keys.contiguous()).clamp(max=max(len(keys) - 1, 0))
    return order[rank] if len(order) else torch.zeros_like(step_keys)
