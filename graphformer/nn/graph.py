"""Parts of graph networks: edge features, ego separation, hybrid blocks, jumping knowledge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, get_args, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.nn.attention import check_nodes
from graphformer.nn.dropout import Dropout
from graphformer.nn.linear import linear_rows, weight_of
from graphformer.nn.options import BlockOptions, TransformerOptions
from graphformer.nn.transformer import Transformer, TransformerArguments
from graphformer.ops import edge_feature_attention
from graphformer.ops.backend import BackendName
from graphformer.patterns import AdjacencyLike, resolve_single

Jump = Literal["last", "cat", "max"]
"""Output of a stack: its last layer, all layers concatenated, or their elementwise maximum."""


class EdgeFeatureOptions(TypedDict, total=False):
    """Optional keyword arguments of `EdgeFeatureAttention`, but for `return_weights`."""

    bias: Tensor | None
    edge_weight: Tensor | None
    backend: BackendName


class EdgeFeatureAttention(nn.Module):
    """Multi-head attention whose keys and values include projected edge features.

    The key of an edge is k_j + K e_ij and its value v_j + V e_ij. With one map for both and no
    output map this is PyG's `TransformerConv` without its skip connection.

    Args:
        dim: width C of the nodes.
        num_heads: H; must divide `dim`.
        edge_dim: width F of the edge features.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: when `num_heads` does not divide `dim`.

    Source: Shi et al., 2021, "Masked label prediction", equations 3 and 4.
    """

    def __init__(self, dim: int, num_heads: int, edge_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.edge_key = nn.Linear(edge_dim, dim, bias=False)
        self.edge_value = nn.Linear(edge_dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    @overload
    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        *,
        edge_attr: Tensor,
        return_weights: Literal[False] = False,
        **options: Unpack[EdgeFeatureOptions],
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        *,
        edge_attr: Tensor,
        return_weights: Literal[True],
        **options: Unpack[EdgeFeatureOptions],
    ) -> tuple[Tensor, Tensor]: ...
    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        *,
        edge_attr: Tensor,
        bias: Tensor | None = None,
        edge_weight: Tensor | None = None,
        backend: BackendName = "auto",
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return out(sum_j softmax_j(s q_i . (k_j + K e_ij)) (v_j + V e_ij)).

        Args:
            x: nodes, [N, C].
            adjacency: N x N; or an `edge_index`, or a pattern over one sample.
            edge_attr: features e of its edges, [E, F].
            bias, edge_weight, backend, return_weights: as in `graphformer.attention`.

        Returns:
            [N, C]; with `return_weights` also the weights, [E, H].
        """
        check_nodes(x, "x")
        adjacency = resolve_single(adjacency, num_nodes=x.shape[0], device=x.device)
        q, k, v = self._queries_keys_and_values(x, adjacency.gather_sources(x))
        result = edge_feature_attention(
            q,
            k,
            v,
            edge_attr,
            weight_of(self.edge_key).unflatten(0, (self.num_heads, -1)),
            weight_of(self.edge_value).unflatten(0, (self.num_heads, -1)),
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

    def _queries_keys_and_values(
        self, x: Tensor, source: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [M, H, D] of x, keys and values [N, H, D] of the sources; by default x."""
        if source is None:
            q, k, v = self.qkv(x).unflatten(1, (3, self.num_heads, -1)).unbind(1)
            return q, k, v
        dim = x.shape[1]
        q = linear_rows(x, self.qkv, slice(dim)).unflatten(1, (self.num_heads, -1))
        kv = linear_rows(source, self.qkv, slice(dim, None))
        k, v = kv.unflatten(1, (2, self.num_heads, -1)).unbind(1)
        return q, k, v

    if TYPE_CHECKING:
        __call__ = forward


class EgoSeparation(nn.Module):
    """A node's own features concatenated with the message, [x, attention(x)] W.

    Other layers add the two. The adjacency should have no self-loops.

    Args:
        attention: [N, C] and an adjacency to [N, C].
        dim: width C.

    Source: Zhu et al., 2020, "Beyond homophily", section 3.1; Platonov et al., 2023.
    """

    def __init__(self, attention: nn.Module, dim: int) -> None:
        super().__init__()
        self.attention = attention
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Unpack[BlockOptions]) -> Tensor:
        """Return [x, attention(x)] W + b, [N, C]; the options are those of the attention."""
        return self.out(torch.cat([x, self.attention(x, adjacency, **options)], dim=-1))


class ResidualBlock(nn.Module):
    """Attention and feed-forward net in one residual branch: x + mlp(attention(norm(x))).

    Args:
        attention: [N, C] and an adjacency to [N, C].
        mlp: [N, C] -> [N, C].
        norm: the normalisation.
        dropout: probability of dropping a unit before it is added to the residual stream.

    Source: Platonov et al., 2023, "A critical look at the evaluation of GNNs under heterophily",
    section 5.
    """

    def __init__(
        self, attention: nn.Module, mlp: nn.Module, norm: nn.Module, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention, self.mlp, self.norm = attention, mlp, norm
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Adjacency, **options: Unpack[BlockOptions]) -> Tensor:
        """Return x + mlp(attention(norm(x))), [N, C]; the options are those of the attention."""
        return x + self.dropout(self.mlp(self.attention(self.norm(x), adjacency, **options)))


class NodeNorm(nn.BatchNorm1d):
    """Batch normalisation over nodes [N, C]; a single node is normalised by running statistics.

    `torch.nn.BatchNorm1d` refuses a training batch of one row, such as a graph of one node.
    """

    sum_over_ranks: Callable[[Tensor], Tensor] | None = None
    """Sums a tensor over the processes whose nodes are normalised together, with gradients."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C]; in training by the statistics of its nodes if N > 1."""
        if self.training and self.sum_over_ranks is not None:
            return self._normalize_together(input, self.sum_over_ranks)
        if not self.training or len(input) > 1:
            return super().forward(input)
        return self._normalize_by_running_statistics(input)

    def _normalize_by_running_statistics(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    def _normalize_together(self, x: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        """Normalise by statistics of the nodes of all processes, and update the running ones."""
        total = reduce(torch.cat([x.sum(0), x.new_full((1,), len(x))]))
        count = total[-1].detach()
        if count <= 1:
            return self._normalize_by_running_statistics(x)
        mean = total[:-1] / count
        variance = reduce((x - mean).square().sum(0)) / count
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                momentum = self.momentum or 0.0
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class HybridBlock(nn.Module):
    """Message passing along the data's edges, in parallel with attention over any adjacency.

    h = norm1(x + local(x)) + norm2(x + attention(x)), then norm3(h + mlp(h)): PyG's `GPSConv`.

    Args:
        local: a PyG layer, `local(x, edge_index)` or `local(x, edge_index, edge_attr=...)`.
        attention: [N, C] and an adjacency to [N, C].
        mlp: [N, C] -> [N, C].
        norm1, norm2, norm3: normalisation of local layer, attention and feed-forward net.
        dropout: probability of dropping a unit before it is added to the residual stream.

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
        **options: Unpack[BlockOptions],
    ) -> Tensor:
        """Return [N, C] of x [N, C].

        Args:
            x: nodes.
            adjacency: of the attention, N x N.
            local_edge_index: `edge_index` of the local layer, [2, E'].
            local_edge_attr: features of these edges, [E', F].
            options: of the attention.
        """
        features = {} if local_edge_attr is None else {"edge_attr": local_edge_attr}
        # Sources on other processes are fetched once for both.
        source = adjacency.gather_sources(x)
        nodes, sources = (x, ()) if source is None else ((source, x), (source,))
        h_local = self.norm1(x + self.dropout(self.local(nodes, local_edge_index, **features)))
        h_global = self.norm2(x + self.dropout(self.attention(x, adjacency, *sources, **options)))
        h = h_local + h_global
        return self.norm3(h + self.dropout(self.mlp(h)))


class JumpingTransformer(Transformer):
    """A Transformer whose output combines those of all blocks; `build_transformer` builds it.

    Args:
        dim, depth, num_heads, arguments: as in `Transformer`.
        jump: "cat" for [N, depth * C], or "max" for the elementwise maximum, [N, C].

    Source: Xu et al., 2018, "Representation learning on graphs with jumping knowledge networks".
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        jump: Jump,
        **arguments: Unpack[TransformerArguments],
    ) -> None:
        super().__init__(dim, depth, num_heads, **arguments)
        check_jump(jump)
        self.jump: Jump = jump

    def forward(
        self,
        x: Tensor,
        adjacency: AdjacencyLike,
        positions: Tensor | None = None,
        **options: Unpack[TransformerOptions],
    ) -> Tensor:
        """Return the normalised outputs of all blocks, combined; arguments as in `Transformer`."""
        states = []
        for block, inputs, block_options in self._block_inputs(x, adjacency, positions, options):
            x = block(x, *inputs, **block_options)
            states.append(self.norm(x))
        return combine_layers(states, self.jump)


def build_transformer(
    dim: int,
    depth: int,
    num_heads: int,
    *,
    jump: Jump = "last",
    block: Callable[[], nn.Module] | None = None,
    **arguments: Unpack[TransformerArguments],
) -> tuple[Transformer, int]:
    """Build a Transformer with or without jumping knowledge; return it and its output width.

    Args:
        dim, depth, num_heads, arguments: as in `Transformer`.
        jump: how the outputs of the blocks are combined, as in `combine_layers`.
        block: builds each block; by default they are those of `Transformer`.

    Raises:
        ValueError: when `jump` is unknown, or when it combines blocks and `depth` is 0.
    """
    number = depth if block is None else 0
    if jump == "last":
        transformer = Transformer(dim, number, num_heads, **arguments)
    else:
        if depth < 1:
            raise ValueError(f"depth: got {depth}, expected at least 1 for jump={jump!r}")
        transformer = JumpingTransformer(dim, number, num_heads, jump=jump, **arguments)
    if block is not None:
        transformer.blocks.extend(block() for _ in range(depth))
    return transformer, dim * depth if jump == "cat" else dim


def combine_layers(states: Sequence[Tensor], jump: Jump) -> Tensor:
    """Return the last output [N, C] of several layers, all concatenated, or their maximum."""
    if jump == "last":
        return states[-1]
    if jump == "cat":
        return torch.cat(list(states), dim=-1)
    return torch.stack(list(states)).amax(0)


def check_jump(jump: Jump) -> None:
    """Check the name of a combination of layers.

    Raises:
        ValueError: when it is unknown.
    """
    if jump not in get_args(Jump):
        raise ValueError(f"jump: got {jump!r}, expected 'last', 'cat' or 'max'")
