"""Attention whose heads have different edges: one head over H times the nodes.

Queries [M, H, D] become [H M, 1, D], keys and values [H N, 1, D], head by head. Each head walks its
own edges, and the rows that it gathers lie close together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency, HeadEdges
from graphformer.ops.common import AttentionOptions, Result, per_head
from graphformer.ops.fused.operands import Inputs, Outputs, Settings


def walks_heads(options: AttentionOptions) -> bool:
    """Whether heads walk their own edges; else they share the union of all edges.

    They share it where weights [E, H] are returned, and in compiled code, where the number of
    edges of all heads is unknown.
    """
    is_compiling = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return not options["return_weights"] and not is_compiling


def of_union(adjacency: Adjacency, q: Tensor, options: AttentionOptions) -> None:
    """Let heads share the union of all edges: a bias of minus infinity where a head has no edge."""
    if isinstance(adjacency, HeadEdges):
        options["bias"] = adjacency.head_bias(options["bias"], q.shape[1], q.dtype)


def attention_by_head(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: HeadEdges,
    *,
    kind: int,
    edge: Tensor | None = None,
    scale: float = 1.0,
    slope: float = 0.0,
    **options: Unpack[AttentionOptions],
) -> Result:
    """Call the operator on the edges of each head.

    Args:
        attend: the operator.
        q, k: queries and keys [N, H, D]; scores [N, H] for additive attention.
        v: values [N, H, Dv].
        adjacency: the edges of each head.
        kind, scale, slope: as in `Settings`.
        edge: scores of the edges [E, H] or [E, 1], for additive attention.
        options: of the call.
    """
    targets, heads = q.shape[:2]
    rows, ids = adjacency.head_rows, adjacency.edge_ids
    if ids is not None:  # of edge and head
        ids = (ids.unsqueeze(1) * heads + torch.arange(heads)).flatten()
    edge_values = (edge, options["bias"], options["edge_weight"])
    edge, bias, edge_weight = (_flat_edges(x, heads) for x in edge_values)
    x = Inputs(
        _by_head(q), _by_head(per_head(k, heads)), _by_head(per_head(v, heads)),
        vector=None, u=None, edge=edge, bias=bias, edge_weight=edge_weight,
        indptr=rows.indptr, indices=rows.sources, edge_ids=ids,
        source_indptr=rows.by_source.indptr, source_targets=rows.by_source.targets,
        source_slots=rows.by_source.slots, seed=options["seed"], positions=rows.positions,
    )  # fmt: skip
    out, _, _, _ = attend(*x, *Settings(kind, scale, slope, options["dropout"]), False)
    return out.view(heads, targets, v.shape[2]).transpose(0, 1).contiguous(), None


def _by_head(x: Tensor) -> Tensor:
    """[N, H, ...] as [H N, 1, ...]; scores [N, H] as [H N, 1]."""
    shape = (-1, 1, x.shape[2]) if x.ndim == 3 else (-1, 1)
    return x.transpose(0, 1).reshape(shape)


def _flat_edges(x: Tensor | None, heads: int) -> Tensor | None:
    """Values of edges, [E, H] or [E, 1], as [E H, 1]."""
    return None if x is None else x.expand(-1, heads).reshape(-1, 1)
