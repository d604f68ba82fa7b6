"""Parts of graph networks: edge features, ego separation, hybrid blocks, jumping connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphformer.adjacency import Adjacency
from graphformer.nn.dropout import Dropout
from graphformer.nn.transformer import Transformer
from graphformer.ops import edge_feature_attention
from graphformer.ops.select import Backend
from graphformer.patterns import AdjacencyLike, resolve, resolve_single

Jump = Literal["last", "cat", "max"]


class EdgeFeatureAttention(nn.Module):
    """Multi-head attention whose keys and values hear from the features of edges.

    k_j + K e_ij and v_j + V e_ij stand for keys and values. With one map for both and no output
    map it is PyG's `TransformerConv` without its skip connection.

    Args:
        dim: width C of the nodes.
        num_heads: H; must divide `dim`.
        edge_dim: width F of the edges' features.
        dropout: probability of dropping an attention weight in training.

    Source: Shi et al., 2021, "Masked label prediction", equations 3 and 4.
    """

    def __init__(self, dim: int, num_heads: int, edge_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.edge_key = nn.Linear(edge_dim, dim, bias=False)
        self.edge_value = nn.Linear(edge_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        *,
        edge_attr: Tensor,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: Backend = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: the nodes, [N, C].
            adjacency: N x N; or an edge_index, or a pattern over one sample.
            edge_attr: the features of its edges, [E, F].
            bias, edge_weight, backend, return_weights: as in `gf.attention`.

        Returns:
            [N, C]; with `return_weights` the pair of it and the weights [E, H].
        """
        adjacency = resolve_single(adjacency, num_nodes=len(x), device=x.device)
        q, k, v = self.qkv(x).unflatten(1, (3, self.num_heads, -1)).unbind(1)
        result = edge_feature_attention(
            q,
            k,
            v,
            edge_attr,
            self.edge_key.weight.unflatten(0, (self.num_heads, -1)),
            self.edge_value.weight.unflatten(0, (self.num_heads, -1)),
            adjacency,
            bias=bias,
            edge_weight=edge_weight,
            dropout=self.dropout if self.training else 0.0,
            backend=backend,
            return_weights=return_weights,
        )
        out, weights = result if isinstance(result, tuple) else (result, None)
        out = self.out(out.flatten(1))
        return out if weights is None else (out, weights)


class EgoSeparation(nn.Module):
    """What a node is beside what it hears: [x, attention(x)] W, where others only add them up.

    Its edges should have no self-loops.

    Args:
        attention: [N, C] and an adjacency to [N, C].
        dim: width C.

    Source: Zhu et al., 2020, "Beyond homophily", section 3.1; Platonov et al., 2023.
    """

    def __init__(self, attention: nn.Module, dim: int) -> None:
        super().__init__()
        self.attention = attention
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Any) -> Tensor:
        """x [N, C] -> [N, C]; options go to the attention."""
        return self.out(torch.cat([x, self.attention(x, adjacency, **options)], dim=-1))


class ResidualBlock(nn.Module):
    """Attention and feed-forward net in one residual: x + mlp(attention(norm(x))).

    Args:
        attention: [N, C] and an adjacency to [N, C].
        mlp: [N, C] -> [N, C].
        norm: the normalisation.
        dropout: probability of dropping a unit before it joins the residual stream.

    Source: Platonov et al., 2023, "A critical look at the evaluation of GNNs under heterophily",
    section 5.
    """

    def __init__(
        self, attention: nn.Module, mlp: nn.Module, norm: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention, self.mlp, self.norm = attention, mlp, norm
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Any) -> Tensor:
        """x [N, C] -> [N, C]; options go to the attention."""
        return x + self.dropout(self.mlp(self.attention(self.norm(x), adjacency, **options)))


class NodeNorm(nn.BatchNorm1d):
    """Batch normalisation over nodes [N, C]; a lone node is normalised by the running statistics.

    torch refuses a training batch of one row, which a graph of one node may be.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C]; in training by the nodes at hand, if there are two or more."""
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class HybridBlock(nn.Module):
    """Local message passing along the data's edges beside attention over any adjacency.

    h = norm1(x + local(x)) + norm2(x + attention(x)), then norm3(h + mlp(h)): PyG's `GPSConv`.

    Args:
        local: a PyG layer, `local(x, edge_index)` or `local(x, edge_index, edge_attr=...)`.
        attention: [N, C] and an adjacency to [N, C].
        mlp: [N, C] -> [N, C].
        norm1, norm2, norm3: the normalisations of the three parts.
        dropout: probability of dropping a unit before it joins the residual stream.

    Source: Rampášek et al., 2022, "Recipe for a general, powerful, scalable graph transformer",
    section 3.1.
    """

    def __init__(
        self,
        local: nn.Module,
        attention: nn.Module,
        mlp: nn.Module,
        norm1: nn.Module,
        norm2: nn.Module,
        norm3: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.local, self.attention, self.mlp = local, attention, mlp
        self.norm1, self.norm2, self.norm3 = norm1, norm2, norm3
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        *,
        local_edge_index: Tensor,
        local_edge_attr: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """x [N, C] -> [N, C].

        Args:
            x: the nodes.
            adjacency: of the attention, N x N.
            local_edge_index: `edge_index` [2, E'] of the local layer.
            local_edge_attr: features of these edges, [E', F].
            options: go to the attention.
        """
        features = {} if local_edge_attr is None else {"edge_attr": local_edge_attr}
        near = self.norm1(x + self.dropout(self.local(x, local_edge_index, **features)))
        far = self.norm2(x + self.dropout(self.attention(x, adjacency, **options)))
        h = near + far
        return self.norm3(h + self.dropout(self.mlp(h)))


class JumpingTransformer(Transformer):
    """A Transformer whose output combines those of all blocks; `build_transformer` builds it.

    Args:
        dim, depth, num_heads, options: of the Transformer.
        jump: "cat" for [N, depth * C], or "max" for the largest, [N, C].

    Source: Xu et al., 2018, "Representation learning on graphs with jumping knowledge networks".
    """

    def __init__(self, dim: int, depth: int, num_heads: int, *, jump: Jump, **options: Any) -> None:
        super().__init__(dim, depth, num_heads, **options)
        check_jump(jump)
        self.jump: Jump = jump

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Send x [N, C] through the blocks and join what each gives; as in `Transformer`."""
        resolved = resolve(adjacency, num_nodes=len(x), device=x.device)
        if isinstance(resolved, Adjacency):
            resolved = [resolved] * len(self.blocks)
        states = []
        for block, edges in zip(self.blocks, resolved, strict=True):
            x = block(x, edges, **options)
            states.append(self.norm(x))
        return combine_layers(states, self.jump)


def build_transformer(
    dim: int,
    depth: int,
    num_heads: int,
    *,
    jump: Jump = "last",
    block: Callable[[], nn.Module] | None = None,
    **options: Any,
) -> tuple[Transformer, int]:
    """A Transformer whose blocks a head may read all, and the width of what it gives.

    Args:
        dim, depth, num_heads, options: of the Transformer.
        jump: as in `combine_layers`.
        block: makes each block; by default they are the Transformer's own.

    Raises ValueError for an unknown `jump`, and for one without blocks to jump from.
    """
    number = depth if block is None else 0
    if jump == "last":
        made = Transformer(dim, number, num_heads, **options)
    else:
        if depth < 1:
            raise ValueError(f"depth must be at least 1 for jump={jump!r}, got {depth}")
        made = JumpingTransformer(dim, number, num_heads, jump=jump, **options)
    if block is not None:
        made.blocks.extend(block() for _ in range(depth))
    return made, dim * depth if jump == "cat" else dim


def combine_layers(states: Sequence[Tensor], jump: Jump) -> Tensor:
    """The outputs [N, C] of several layers as one: the last, all side by side, or the largest."""
    if jump == "last":
        return states[-1]
    if jump == "cat":
        return torch.cat(list(states), dim=-1)
    return torch.stack(list(states)).amax(0)


def check_jump(jump: Jump) -> None:
    """Refuse an unknown way to join layers by ValueError."""
    if jump not in get_args(Jump):
        raise ValueError(f"jump must be 'last', 'cat' or 'max', got {jump!r}")
