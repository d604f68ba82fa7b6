"""Heterogeneous graph transformers: attention with maps by type of node and by type of edge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency, edge_values, from_edge_index
from graphformer.models.base import AdjacencyModel
from graphformer.nn.dropout import Dropout
from graphformer.nn.encodings import node_features
from graphformer.nn.readout import Pairs, Readout, graph_head
from graphformer.ops import attention
from graphformer.ops.backend import BackendName
from graphformer.patterns import AdjacencyLike
from graphformer.patterns.fields import require_tensor
from graphformer.recorded import recorded

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class TypedEdges(NamedTuple):
    """Edges whose source is a pair of a type of edge and a node, so that keys have its type.

    Edges of several types between the same two nodes have different sources.
    """

    adjacency: Adjacency
    """N targets by P pairs, one edge for each of the original adjacency, in its order."""
    node: Tensor
    """Node of each pair, int64 [P], sorted by type."""
    counts: list[int]
    """Number of pairs of each type of edge."""
    edge_type: Tensor
    """Type of each edge, int64 [E]."""


def typed_edges(adjacency: Adjacency, edge_type: Tensor, num_types: int) -> TypedEdges:
    """Return an adjacency of N nodes as edges from pairs of type and source.

    Args:
        adjacency: N x N with E edges.
        edge_type: of each edge, int64 [E], 0 to num_types - 1.
        num_types: number of types.
    """
    targets, sources = adjacency.shape
    source, target = adjacency.edge_index
    keys, pair = (edge_type * max(sources, 1) + source).unique(return_inverse=True)
    counts = torch.bincount(keys // max(sources, 1), minlength=num_types)
    edges = torch.stack([pair, target])
    return TypedEdges(
        from_edge_index(edges, num_nodes=(targets, len(keys)), coalesce=False),
        keys % max(sources, 1),
        counts.tolist(),
        edge_type,
    )


class TypedLinear(nn.Module):
    """A linear map for each type of node.

    Args:
        num_types: number of types.
        in_dim, out_dim: widths.
    """

    def __init__(self, num_types: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_dim)  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(num_types, out_dim, in_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_types, out_dim).uniform_(-bound, bound))

    def forward(self, x: Tensor, node_type: Tensor) -> Tensor:
        """Return W_t x + b_t for each node's type t, [N, out_dim].

        Args:
            x: [N, in_dim].
            node_type: int64 [N].
        """
        order = node_type.argsort(stable=True)
        counts = torch.bincount(node_type, minlength=len(self.weight)).tolist()
        parts = x[order].split(counts)
        maps = zip(parts, self.weight, self.bias, strict=True)
        return torch.cat([F.linear(*part) for part in maps])[order.argsort()]


class TypedAttention(nn.Module):
    r"""The layer of HGT: queries, keys and values by type of node, relations by type of edge.

    For an edge of type r from a node j to a node i of type t(i),

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j(\mu_r\, q_i \cdot W^K_r k_j / \sqrt{D}), \quad
        y_i = \sigma(s_{t(i)})\, A_{t(i)}\, \mathrm{gelu}\Big(\sum_j \alpha_{ij} W^V_r v_j\Big)
              + (1 - \sigma(s_{t(i)}))\, x_i

    With the same weights it equals PyG's `HGTConv`.

    Args:
        dim: width C of the nodes.
        num_heads: H; must divide `dim`.
        num_node_types, num_edge_types: number of types.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: when `num_heads` does not divide `dim`.

    Source: Hu et al., 2020, "Heterogeneous graph transformer", equations 3 to 5.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_node_types: int,
        num_edge_types: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
        self.num_heads, self.dropout = num_heads, dropout
        width = dim // num_heads
        bound = 1 / math.sqrt(width)
        maps = torch.empty(2, num_edge_types, num_heads, width, width).uniform_(-bound, bound)
        self.qkv = TypedLinear(num_node_types, dim, 3 * dim)
        self.key_map, self.value_map = nn.Parameter(maps[0].clone()), nn.Parameter(maps[1].clone())
        self.prior = nn.Parameter(torch.ones(num_edge_types, num_heads))
        self.out = TypedLinear(num_node_types, dim, dim)
        self.skip = nn.Parameter(torch.ones(num_node_types))

    def forward(
        self,
        x: Tensor,
        edges: TypedEdges,
        node_type: Tensor,
        *,
        backend: BackendName = "auto",
    ) -> Tensor:
        """Return the nodes after one layer, [N, C].

        Args:
            x: [N, C].
            edges: as `typed_edges` returns them.
            node_type: int64 [N].
            backend: as in `graphformer.attention`.
        """
        q, k, v = self.qkv(x, node_type).unflatten(1, (3, self.num_heads, -1)).unbind(1)
        y = attention(
            q,
            self._related(k, self.key_map, edges),
            self._related(v, self.value_map, edges),
            edges.adjacency,
            edge_weight=self.prior[edges.edge_type],
            dropout=self.dropout if self.training else 0.0,
            backend=backend,
        )
        share = self.skip.sigmoid()[node_type].unsqueeze(1)
        return torch.lerp(x, self.out(F.gelu(y.flatten(1)), node_type), share)

    def _related(self, values: Tensor, maps: Tensor, edges: TypedEdges) -> Tensor:
        """Return W_r v_j for each pair of an edge type r and a node j, [P, H, D]."""
        parts = values[edges.node].split(edges.counts)
        related = [
            torch.einsum("phd,hde->phe", part, own) for part, own in zip(parts, maps, strict=True)
        ]
        return torch.cat(related)


class HGT(AdjacencyModel):
    """Layers of `TypedAttention` between a map of the features by type and a head; see `hgt`.

    Edges that are not in the data, such as self-loops, have a type of their own, the last one.

    Args:
        embedding: of the features, by type.
        layers: as many as the depth.
        head: from nodes and the batch to the output.
        dropout: probability of dropping a unit of each layer's input.
    """

    def __init__(
        self,
        embedding: TypedLinear,
        layers: list[TypedAttention],
        head: nn.Module,
        *,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding, self.layers, self.head = embedding, nn.ModuleList(layers), head
        self.dropout = Dropout(dropout)
        self.num_edge_types = len(layers[0].prior) - 1

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def forward(self, batch: BatchLike, adjacency: AdjacencyLike | None = None) -> Tensor:
        """Return the output of the head from `batch.x` [N, F].

        Args:
            batch: graphs with `node_type` [N], `edge_index` and `edge_type` [E].
            adjacency: N x N, a pattern or an edge_index; that of the model by default.

        Raises:
            ValueError: when the batch lacks a field, a type is out of range, or there is no
                adjacency, or one for each layer.
        """
        resolved = self.resolve_single_adjacency(batch, adjacency)
        node_type = require_tensor(batch, "node_type", "the model has maps by type of node")
        edge_type = require_tensor(batch, "edge_type", "the model has maps by type of edge")
        _check_types("node_type", node_type, len(self.embedding.weight))
        _check_types("edge_type", edge_type, self.num_edge_types)
        types = edge_values(resolved, batch.edge_index, edge_type, fill=self.num_edge_types)
        edges = typed_edges(resolved, types, self.num_edge_types + 1)
        x = F.gelu(self.embedding(node_features(batch, self.embedding.weight.shape[2]), node_type))
        for layer in self.layers:
            x = layer(self.dropout(x), edges, node_type)
        return self.head(x, batch)


def _check_types(name: str, types: Tensor, count: int) -> None:
    if len(types) and not 0 <= int(types.min()) <= int(types.max()) < count:
        raise ValueError(
            f"{name}: got types from {int(types.min())} to {int(types.max())}, expected 0 to "
            f"{count - 1}; raise num_{name}s"
        )


@recorded
def hgt(
    num_features: int,
    num_classes: int,
    dim: int = 64,
    depth: int = 2,
    num_heads: int = 4,
    *,
    num_node_types: int,
    num_edge_types: int,
    pool: Readout | None = None,
    pairs: Pairs | None = None,
    dropout: float = 0.2,
    attention_dropout: float = 0.0,
) -> HGT:
    """Build a heterogeneous graph transformer for data with types of nodes and edges.

    `NodeFile` makes such data of a `HeteroData`; the adjacency is usually `Edges`. For several
    types of edges between the same two nodes, each is an edge of its own.

    Args:
        num_features: width of the node features.
        num_classes: K.
        dim, depth, num_heads: width, number of layers and heads.
        num_node_types, num_edge_types: number of types in `batch.node_type` and `batch.edge_type`;
            at the command line, those of the data.
        pool: how the nodes of a sample are pooled; None for logits by node.
        pairs: logits for node pairs, as in `PairHead`.
        dropout: probability of dropping a unit of each layer's input.
        attention_dropout: probability of dropping an attention weight.

    Returns:
        A model from features [N, num_features] to logits [N, K]; [B, K] if pooled; [P, K] of pairs.

    Raises:
        ValueError: for sizes below 1, and when `num_heads` does not divide `dim`.

    Source: Hu et al., 2020, "Heterogeneous graph transformer", https://arxiv.org/abs/2003.01332.
    """
    sizes = {
        "depth": depth, "num_node_types": num_node_types, "num_edge_types": num_edge_types,
    }  # fmt: skip
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: got {size}, expected 1 or more")
    layers = [
        TypedAttention(
            dim,
            num_heads,
            num_node_types=num_node_types,
            num_edge_types=num_edge_types + 1,
            dropout=attention_dropout,
        )
        for _ in range(depth)
    ]
    head = graph_head(dim, num_classes, pool=pool, pairs=pairs, num_heads=num_heads)
    embedding = TypedLinear(num_node_types, num_features, dim)
    return HGT(embedding, layers, head, dropout=dropout)
