"""PyG's attention layers with a fused forward; `accelerate` puts them in place of PyG's own.

They differ in `forward` only, so parameters, `state_dict`, hooks and pickles stay what they are.
PyG's own forward still runs where there are no messages to fuse or somebody wants to see them:
sparse adjacency tensors, explanation mode, hooks on messages, TorchScript tracing and export, and
the weights of a TransformerConv under dropout, which PyG returns as they were before it.
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
from graphformer.pyg.edges import LayerEdges, edges_of

Pair = tuple[Tensor, Tensor | None]
_HOOKS = [
    f"_{place}_forward_{when}"
    for place in ("propagate", "message", "aggregate", "edge_update")
    for when in ("pre_hooks", "hooks")
]


def _keep_templates(self: MessagePassing, raise_on_error: bool = False) -> None:
    """Do nothing when a layer is copied or unpickled: PyG has compiled messages for its own class.

    For a subclass it would take the compiled `propagate` for the original one, which explanation
    mode returns to.
    """


class FusedGATConv(GATConv):
    """PyG's GATConv, in one pass over the edges (Veličković et al., 2018, equation 3)."""

    _set_jittable_templates = _keep_templates

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """As in PyG: x [N, F] or a pair of source and target features; out [M, H * C] or [M, C]."""
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        if not _covered(self, x_src, edge_index):
            return super().forward(x, edge_index, edge_attr, size, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        shape = _shape(self, edge_index, size, x_src, x_dst)
        loops = min(shape) if x_dst is not None else min(size or (len(x_src),))
        edges = edges_of(edge_index, shape, loops if self.add_self_loops else None)
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
        target_score, source_score, source = _alike(target_score, source_score, source)
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
        """(x * att).sum(-1) of sources [N, H] and targets [M, H]; one product if they are one."""
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

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """As in PyG: x [N, F] or a pair of source and target features; out [M, H * C] or [M, C]."""
        fits = edge_attr is None or self.lin_edge is not None
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        if x_dst is None or not _covered(self, x_src, edge_index) or not fits:
            return super().forward(x, edge_index, edge_attr, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        shape = _shape(self, edge_index, None, x_src, x_dst)
        loops = min(shape)
        edges = edges_of(edge_index, shape, loops if self.add_self_loops else None)
        residual = None if self.res is None else self.res(x_dst)
        source = self.lin_l(x_src).view(-1, self.heads, self.out_channels)
        target = source
        if x_dst is not x_src or not self.share_weights:
            target = self.lin_r(x_dst).view(-1, self.heads, self.out_channels)
        edge_key = None
        if edge_attr is not None:
            edge_attr = _edge_attr(self, edge_index, edge_attr, edges, loops)
            edge_key = self.lin_edge(edge_attr).view(-1, self.heads, self.out_channels)
        target, source, weight = _alike(target, source, self.att[0])
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

    def forward(
        self,
        x: Tensor | Pair,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """As in PyG: x [N, F] or a pair of source and target features; out [M, H * C] or [M, C]."""
        asked = isinstance(return_attention_weights, bool)
        x_src, x_dst = (x, x) if isinstance(x, Tensor) else x
        fits = self._fits(edge_attr) and not (asked and _dropout(self))
        if x_dst is None or not _covered(self, x_src, edge_index) or not fits:
            return super().forward(x, edge_index, edge_attr, return_attention_weights)
        edge_index = _plain_tensor(edge_index)
        edges = edges_of(edge_index, _shape(self, edge_index, None, x_src, x_dst))
        per_head = -1, self.heads, self.out_channels
        query = self.lin_query(x_dst).view(per_head)
        key, value = self.lin_key(x_src).view(per_head), self.lin_value(x_src).view(per_head)
        options: dict[str, Any] = {"dropout": _dropout(self), "return_weights": asked}
        if edge_attr is None:
            result: Any = attention(query, key, value, edges.adjacency, **options)
        else:
            w = self.lin_edge.weight.view(self.heads, self.out_channels, -1)
            result = edge_feature_attention(
                query, key, value, edge_attr, w, w, edges.adjacency, **options
            )
        out, *weights = result if asked else (result,)
        out = self._with_root(out.flatten(1) if self.concat else out.mean(dim=1), x_dst)
        return (out, (edge_index, *weights)) if asked else out

    def _fits(self, edge_attr: Tensor | None) -> bool:
        """Whether the edge features are there if and only if the layer has a matrix for them."""
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
    """Whether the fused forward stands in for PyG's; see the top of this file."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[attr-defined]
        return False
    dense = isinstance(edge_index, Tensor) and edge_index.layout is torch.strided
    watched = conv.explain or any(getattr(conv, name) for name in _HOOKS)
    return dense and x.dim() == 2 and not watched and conv.dropout < 1


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
    """(targets, sources), checked by PyG's own checks."""
    sizes = conv._check_input(edge_index, size)
    conv._set_size(sizes, 0, source)
    if target is not None:
        conv._set_size(sizes, 1, target)
    return sizes[0] if sizes[1] is None else sizes[1], sizes[0]


def _score(x: Tensor, *vectors: Tensor) -> Tensor:
    """(x * vector).sum(-1) of x [N, H, C] for each vector [1, H, C], side by side [N, count * H].

    As one matrix product with zeros between the heads it reads x once; in the vectors' dtype, as
    the product with them has it under autocast.
    """
    heads = torch.eye(x.shape[1], dtype=vectors[0].dtype, device=x.device).unsqueeze(1)
    columns = [(vector[0].unsqueeze(-1) * heads).flatten(0, 1) for vector in vectors]
    with torch.autocast(x.device.type, enabled=False):
        return x.flatten(1).to(heads.dtype) @ torch.cat(columns, dim=1)


def _edge_attr(
    conv: Any, edge_index: Tensor, edge_attr: Tensor, edges: LayerEdges, loops: int
) -> Tensor:
    """The features [E, F] of all edges, those of the added self-loops as `fill_value` says."""
    if edges.looped is not None:
        if edges.kept is not None:
            edge_index, edge_attr = edge_index[:, edges.kept], edge_attr[edges.kept]
        _, edge_attr = add_self_loops(
            edge_index, edge_attr, fill_value=conv.fill_value, num_nodes=loops
        )
    return edge_attr.view(-1, 1) if edge_attr.dim() == 1 else edge_attr


def _is_matrix(linear: Any) -> bool:
    """Whether applying the layer is a product with its weight, which may then be folded."""
    return type(linear) is Linear and not (
        linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks
    )


def _alike(*tensors: Tensor) -> list[Tensor]:
    """Tensors in the dtype that their product has, as autocast leaves parameters in float32."""
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in tensors]


def _results(
    conv: Any, result: Any, residual: Tensor | None, edge_index: Tensor, edges: LayerEdges
) -> Any:
    """What a GAT layer returns: heads joined, residual and bias added, weights if asked for."""
    out, *weights = result if isinstance(result, tuple) else (result,)
    out = out.flatten(1) if conv.concat else out.mean(dim=1)
    if residual is not None:
        out = out + residual
    if conv.bias is not None:
        out = out + conv.bias
    if not weights:
        return out
    return out, (edge_index if edges.looped is None else edges.looped.clone(), *weights)
