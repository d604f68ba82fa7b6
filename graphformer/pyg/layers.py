"""PyG's attention layers with a fused forward pass.

They differ from PyG's in `forward` only, so parameters, `state_dict`, hooks and pickles are the
same. PyG's own forward runs where the fused one has no messages or does not apply: sparse adjacency
tensors, explanation mode, hooks on messages, TorchScript tracing, export, and returned weights of a
TransformerConv under dropout, which PyG returns before dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing, TransformerConv
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.utils import add_self_loops

from graphformer.ops import (
    additive_attention,
    attention,
    edge_feature_attention,
    gatv2_attention,
)
from graphformer.pyg.edges import LayerEdges, layer_edges

Pair = tuple[Tensor, Tensor | None]
_HOOKS = [
    f"_{step}_forward_{when}"
    for step in ("propagate", "message", "aggregate", "edge_update")
    for when in ("pre_hooks", "hooks")
]


def _keep_templates(self: MessagePassing, raise_on_error: bool = False) -> None:
    """Keep PyG's compiled `propagate` when a layer is copied or unpickled.

    In a subclass PyG would store it as the original `propagate`, which explanation mode restores.
    """


def _repr_as_pyg(self: Any) -> str:
    """PyG's representation, `GATConv(5, 7, heads=3)`: the layer stands in for that class."""
    name = type(self).__name__.removeprefix("Fused")
    return f"{name}({self.in_channels}, {self.out_channels}, heads={self.heads})"


class FusedGATConv(GATConv):
    """PyG's GATConv, in one pass over the edges (Veličković et al., 2018, equation 3)."""

    _set_jittable_templates = _keep_templates
    __repr__ = _repr_as_pyg

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Return [M, H * C], or [M, C] of averaged heads, as PyG's `GATConv`.

        Args:
            x: [N, F], or the pair of source and target features; the latter may be None.
            edge_index: integer [2, E], or what else PyG's layer accepts.
            edge_attr: features of the edges, [E, D].
            size: (sources, targets), PyG's order.
            return_attention_weights: whether to return the weights of all edges too.
        """
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        if not _covered(self, x_src, edge_index):
            return super().forward(x, edge_index, edge_attr, size, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        shape = _shape(self, edge_index, size, x_src, x_dst)
        loops = min(shape) if x_dst is not None else min(size or (len(x_src),))
        edges = layer_edges(edge_index, shape, loops if self.add_self_loops else None)
        residual = None if self.res is None or x_dst is None else self.res(x_dst)
        source = self._heads(self.lin_src if self.lin is None else self.lin, x_src)
        if x_dst is x_src and self.lin is not None:
            target = source
        elif x_dst is not None:
            target = self._heads(self.lin_dst if self.lin is None else self.lin, x_dst)
        else:
            target = None
        source_score, target_score = self._scores(source, target, shape[0])
        edge_score = None
        if edge_attr is not None and self.lin_edge is not None:
            edge_score = self._edge_score(_edge_attr(self, edge_index, edge_attr, edges, loops))
        target_score, source_score, source = _to_common_dtype(target_score, source_score, source)
        result = additive_attention(
            target_score,
            source_score,
            source,
            edges.adjacency,
            negative_slope=self.negative_slope,
            edge_score=edge_score,
            dropout=_dropout(self),
            return_weights=bool(return_attention_weights),
        )
        return _results(self, result, residual, edge_index, edges)

    def _heads(self, linear: Any, x: Tensor) -> Tensor:
        return linear(x).view(-1, self.heads, self.out_channels)

    def _scores(self, source: Tensor, target: Tensor | None, targets: int) -> tuple[Tensor, Tensor]:
        """(x * att).sum(-1) of sources [N, H] and targets [M, H]; one product if equal."""
        if target is source:
            both = _score(source, self.att_src, self.att_dst)
            return both[:, : self.heads], both[:, self.heads :]
        source_score = _score(source, self.att_src)
        if target is None:
            return source_score, source_score.new_zeros(targets, self.heads)
        return source_score, _score(target, self.att_dst)

    def _edge_score(self, edge_attr: Tensor) -> Tensor:
        """(lin_edge(edge_attr) * att_edge).sum(-1), [E, H], without the features [E, H, C]."""
        if not _is_matrix(self.lin_edge):
            return (self._heads(self.lin_edge, edge_attr) * self.att_edge).sum(-1)
        weight = self.lin_edge.weight.view(self.heads, self.out_channels, -1)
        return edge_attr @ torch.einsum("hcf,hc->fh", weight, self.att_edge[0])


class FusedGATv2Conv(GATv2Conv):
    """PyG's GATv2Conv, in one pass over the edges (Brody et al., 2022, equation 7)."""

    _set_jittable_templates = _keep_templates
    __repr__ = _repr_as_pyg

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Return [M, H * C], or [M, C] of averaged heads; arguments as in PyG's `GATv2Conv`."""
        fits = edge_attr is None or self.lin_edge is not None
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        if x_dst is None or not _covered(self, x_src, edge_index) or not fits:
            return super().forward(x, edge_index, edge_attr, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        shape = _shape(self, edge_index, None, x_src, x_dst)
        loops = min(shape)
        edges = layer_edges(edge_index, shape, loops if self.add_self_loops else None)
        residual = None if self.res is None else self.res(x_dst)
        source = self.lin_l(x_src).view(-1, self.heads, self.out_channels)
        target = source
        if x_dst is not x_src or not self.share_weights:
            target = self.lin_r(x_dst).view(-1, self.heads, self.out_channels)
        edge_key = None
        if edge_attr is not None:
            edge_attr = _edge_attr(self, edge_index, edge_attr, edges, loops)
            edge_key = self.lin_edge(edge_attr).view(-1, self.heads, self.out_channels)
        target, source, weight = _to_common_dtype(target, source, self.att[0])
        result = gatv2_attention(
            target,
            source,
            source,
            weight,
            edges.adjacency,
            negative_slope=self.negative_slope,
            edge_key=edge_key,
            dropout=_dropout(self),
            return_weights=bool(return_attention_weights),
        )
        return _results(self, result, residual, edge_index, edges)


class FusedTransformerConv(TransformerConv):
    """PyG's TransformerConv, in one pass over the edges (Shi et al., 2021, equations 3 and 4)."""

    _set_jittable_templates = _keep_templates
    __repr__ = _repr_as_pyg

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Return [M, H * C] or [M, C] of averaged heads; arguments as in `TransformerConv`.

        PyG returns the attention weights, before dropout, for both values of
        `return_attention_weights`, and none for None.
        """
        returns_weights = isinstance(return_attention_weights, bool)
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        fits = self._fits(edge_attr) and not (returns_weights and _dropout(self))
        if x_dst is None or not _covered(self, x_src, edge_index) or not fits:
            return super().forward(x, edge_index, edge_attr, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        edges = layer_edges(edge_index, _shape(self, edge_index, None, x_src, x_dst))
        per_head = -1, self.heads, self.out_channels
        query = self.lin_query(x_dst).view(per_head)
        key, value = self.lin_key(x_src).view(per_head), self.lin_value(x_src).view(per_head)
        options: dict[str, Any] = {"dropout": _dropout(self), "return_weights": returns_weights}
        if edge_attr is None:
            result: Any = attention(query, key, value, edges.adjacency, **options)
        else:
            w = self.lin_edge.weight.view(self.heads, self.out_channels, -1)
            result = edge_feature_attention(
                query, key, value, edge_attr, w, w, edges.adjacency, **options
            )
        out, *weights = result if returns_weights else (result,)
        out = self._with_root(out.flatten(1) if self.concat else out.mean(dim=1), x_dst)
        return (out, (edge_index, *weights)) if returns_weights else out

    def _fits(self, edge_attr: Tensor | None) -> bool:
        """Whether there are edge features exactly if the layer has a matrix for them."""
        if edge_attr is None or self.lin_edge is None:
            return edge_attr is None and self.lin_edge is None
        return edge_attr.dim() == 2 and _is_matrix(self.lin_edge)

    def _with_root(self, out: Tensor, x: Tensor) -> Tensor:
        if not self.root_weight:
            return out
        root = self.lin_skip(x)
        if self.lin_beta is None:
            return out + root
        beta = self.lin_beta(torch.cat([out, root, out - root], dim=-1)).sigmoid()
        return beta * root + (1 - beta) * out


FUSED: dict[type[MessagePassing], type[MessagePassing]] = {
    GATConv: FusedGATConv,
    GATv2Conv: FusedGATv2Conv,
    TransformerConv: FusedTransformerConv,
}


def _covered(conv: Any, x: Tensor, edge_index: Any) -> bool:
    """Whether the fused forward applies; see the docstring of this module."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[attr-defined]
        return False
    dense = isinstance(edge_index, Tensor) and edge_index.layout is torch.strided
    needs_messages = conv.explain or any(getattr(conv, name) for name in _HOOKS)
    return dense and x.dim() == 2 and not needs_messages and conv.dropout < 1


def _plain_tensor(edge_index: Tensor) -> Tensor:
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def _dropout(conv: Any) -> float:
    return conv.dropout if conv.training else 0.0


def _shape(
    conv: Any,
    edge_index: Tensor,
    size: tuple[int, int] | None,
    source: Tensor,
    target: Tensor | None,
) -> tuple[int, int]:
    """(targets, sources), validated by PyG's own checks."""
    sizes = conv._check_input(edge_index, size)
    conv._set_size(sizes, 0, source)
    if target is not None:
        conv._set_size(sizes, 1, target)
    return sizes[0] if sizes[1] is None else sizes[1], sizes[0]


def _score(x: Tensor, *vectors: Tensor) -> Tensor:
    """(x * vector).sum(-1) of x [N, H, C] for each vector [1, H, C], concatenated [N, count * H].

    One matrix product with zeros between the heads, which reads x once. It is computed in the
    dtype of the vectors, as an elementwise product is under autocast.
    """
    heads = torch.eye(x.shape[1], dtype=vectors[0].dtype, device=x.device).unsqueeze(1)
    columns = [(vector[0].unsqueeze(-1) * heads).flatten(0, 1) for vector in vectors]
    with torch.autocast(x.device.type, enabled=False):
        return x.flatten(1).to(heads.dtype) @ torch.cat(columns, dim=1)


def _edge_attr(
    conv: Any, edge_index: Tensor, edge_attr: Tensor, edges: LayerEdges, loops: int
) -> Tensor:
    """The features [E, F] of all edges; `fill_value` determines those of added self-loops."""
    if edges.with_loops is not None:
        if edges.non_loops is not None:
            edge_index, edge_attr = edge_index[:, edges.non_loops], edge_attr[edges.non_loops]
        _, edge_attr = add_self_loops(
            edge_index, edge_attr, fill_value=conv.fill_value, num_nodes=loops
        )
    return edge_attr.view(-1, 1) if edge_attr.dim() == 1 else edge_attr


def _is_matrix(linear: Any) -> bool:
    """Whether a call of the layer does nothing but multiply by its weight, without hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return type(linear) is Linear and not (
        any(getattr(linear, name) for name in hooks) or _has_global_hooks()
    )


def _has_global_hooks() -> bool:
    """Whether hooks are registered for all modules (`register_module_forward_hook`)."""
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    return any(getattr(torch.nn.modules.module, name) for name in names)


def _to_common_dtype(*tensors: Tensor) -> list[Tensor]:
    """Convert tensors to their common dtype: autocast leaves parameters in float32."""
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in tensors]


def _results(
    conv: Any, result: Any, residual: Tensor | None, edge_index: Tensor, edges: LayerEdges
) -> Any:
    """The output of a GAT layer: heads combined, residual and bias added; weights."""
    out, *weights = result if isinstance(result, tuple) else (result,)
    out = out.flatten(1) if conv.concat else out.mean(dim=1)
    if residual is not None:
        out = out + residual
    if conv.bias is not None:
        out = out + conv.bias
    if not weights:
        return out
    return out, (edge_index if edges.with_loops is None else edges.with_loops.clone(), *weights)
