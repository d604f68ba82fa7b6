"""The same attention in other libraries: one builder per peer, `make(work) -> call`.

`call(*inputs)` is the forward pass. What depends on the graph only (sorting, masks, the CSR) is
computed by the builder and not timed, for all peers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch_geometric.typing
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, TransformerConv

import graphformer as gf

Call = Callable[..., Tensor]
OURS, PYG, PYG_SCATTER, PLAIN = "graphformer", "PyG", "PyG + torch-scatter", "gather-scatter"
SEGMENT, DGL, MASK, SDPA = "segment_csr", "DGL", "SDPA + mask", "SDPA"
COMPILED, ANEMOI = "torch.compile of gather-scatter", "anemoi-models"
FLEX, TRITON = "FlexAttention", "graphformer, triton"
HAS_SCATTER = find_spec("torch_scatter") is not None


@dataclass
class Work:
    """Attention of `heads` heads of `width` over the edges of a graph."""

    edge_index: Tensor
    nodes: int
    heads: int
    width: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        self.edge_index = self.edge_index.to(self.device)

    def inputs(self, kind: str) -> list[Tensor]:
        """Queries, keys and values, or two scores and values; they require gradients."""
        generator = torch.Generator().manual_seed(1)
        wide, flat = (self.nodes, self.heads, self.width), (self.nodes, self.heads)
        shapes = [wide] * 3 if kind == "attention" else [flat, flat, wide]
        tensors = [torch.randn(shape, generator=generator) for shape in shapes]
        return [x.to(self.device, self.dtype).requires_grad_() for x in tensors]

    def describe(self) -> dict[str, Any]:
        edges = self.edge_index.shape[1]
        return {"nodes": self.nodes, "edges": edges, "heads": self.heads, "width": self.width}


@contextmanager
def scatter_flag(on: bool) -> Iterator[None]:
    """Run PyG with or without torch-scatter: it reads this flag at every call."""
    before = torch_geometric.typing.WITH_TORCH_SCATTER
    torch_geometric.typing.WITH_TORCH_SCATTER = on
    try:
        yield
    finally:
        torch_geometric.typing.WITH_TORCH_SCATTER = before


def _sorted_edges(work: Work) -> EdgeIndex:
    """Edges sorted by target as an `EdgeIndex`, for which PyG runs torch-scatter's kernels.

    For a plain edge_index on a CPU, PyG runs torch's scatter even if torch-scatter is installed.
    """
    size = work.nodes, work.nodes
    edges = EdgeIndex(work.edge_index, sparse_size=size).sort_by("col").values
    edges.get_indptr()
    return edges


# Dot-product attention --------------------------------------------------------------------------


def ours(work: Work) -> Call:
    adjacency = gf.from_edge_index(work.edge_index, work.nodes)
    adjacency.by_source  # noqa: B018 - cached here, so that it is not timed
    return lambda q, k, v: gf.attention(q, k, v, adjacency)


def pyg(work: Work, *, scatter: bool = False) -> Call:
    conv = TransformerConv(1, work.width, heads=work.heads)
    edges = _sorted_edges(work) if scatter else work.edge_index

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with scatter_flag(scatter):
            out = conv.propagate(edges, query=q, key=k, value=v, edge_attr=None)
        return out.view(v.shape)

    return call


def pyg_scatter(work: Work) -> Call:
    return pyg(work, scatter=True)


def plain(work: Work) -> Call:
    source, target = work.edge_index

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = (q.index_select(0, target) * k.index_select(0, source)).sum(-1) / work.width**0.5
        return _gathered(_softmax(logits, target, work.nodes), v, work.edge_index)

    return call


def segment(work: Work) -> Call:
    from torch_scatter import gather_csr, segment_csr

    csr = gf.from_edge_index(work.edge_index, work.nodes)
    indptr, source = csr.indptr.long(), csr.indices.long()

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = (gather_csr(q, indptr) * k.index_select(0, source)).sum(-1) / work.width**0.5
        largest = segment_csr(logits.detach(), indptr, reduce="max")
        weights = (logits - gather_csr(largest, indptr)).exp()
        total = segment_csr(weights, indptr, reduce="sum").clamp(min=1e-16)
        weights = weights / gather_csr(total, indptr)
        values = weights.unsqueeze(-1) * v.index_select(0, source)
        return segment_csr(values, indptr, reduce="sum")

    return call


def dgl(work: Work) -> Call:
    graph, ops = _dgl(work)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = ops.u_dot_v(graph, k, q) / work.width**0.5
        return ops.u_mul_e_sum(graph, v, ops.edge_softmax(graph, logits))

    return call


def sdpa_mask(work: Work) -> Call:
    mask = torch.zeros(work.nodes, work.nodes, dtype=torch.bool, device=work.device)
    mask[work.edge_index[1], work.edge_index[0]] = True

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1)

    return call


def compiled_plain(work: Work) -> Call:
    return torch.compile(plain(work))


def anemoi(work: Work) -> Call:
    """Anemoi's Triton graph transformer, which always adds edge keys [E, H, D]: zeros here."""
    from anemoi.models.triton.gt import graph_transformer_attention
    from anemoi.models.triton.utils import edge_index_to_csc

    size = work.nodes, work.nodes
    (row, colptr), _, (rowptr, edge_ids, edge_dst) = edge_index_to_csc(work.edge_index, size)
    edges = work.edge_index.shape[1]
    keys = torch.zeros(edges, work.heads, work.width, device=work.device, dtype=work.dtype)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return graph_transformer_attention(q, k, v, keys, row, colptr, rowptr, edge_ids, edge_dst)[
            0
        ]

    return call


def flex_window(length: int, radius: int) -> Call:
    """FlexAttention with a band as in its documentation, on CUDA."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i - j).abs() <= radius

    mask = create_block_mask(near, None, None, length, length, device="cuda", _compile=True)
    kernel = torch.compile(flex_attention)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return kernel(q, k, v, block_mask=mask)[0].transpose(0, 1)

    return call


# Additive attention -----------------------------------------------------------------------------


def ours_additive(work: Work) -> Call:
    adjacency = gf.from_edge_index(work.edge_index, work.nodes)
    adjacency.by_source  # noqa: B018
    return lambda t, s, v: gf.additive_attention(t, s, v, adjacency)


def pyg_additive(work: Work, *, scatter: bool = False) -> Call:
    conv = GATConv(1, work.width, heads=work.heads, add_self_loops=False)
    edges = _sorted_edges(work) if scatter else work.edge_index

    def call(t: Tensor, s: Tensor, v: Tensor) -> Tensor:
        with scatter_flag(scatter):
            alpha = conv.edge_updater(edges, alpha=(s, t), edge_attr=None, size=None)
            return conv.propagate(edges, x=(v, v), alpha=alpha, size=None)

    return call


def pyg_scatter_additive(work: Work) -> Call:
    return pyg_additive(work, scatter=True)


def plain_additive(work: Work) -> Call:
    source, target = work.edge_index

    def call(t: Tensor, s: Tensor, v: Tensor) -> Tensor:
        logits = F.leaky_relu(t.index_select(0, target) + s.index_select(0, source), 0.2)
        return _gathered(_softmax(logits, target, work.nodes), v, work.edge_index)

    return call


def dgl_additive(work: Work) -> Call:
    graph, ops = _dgl(work)

    def call(t: Tensor, s: Tensor, v: Tensor) -> Tensor:
        logits = F.leaky_relu(ops.u_add_v(graph, s.unsqueeze(-1), t.unsqueeze(-1)), 0.2)
        return ops.u_mul_e_sum(graph, v, ops.edge_softmax(graph, logits))

    return call


ATTENTION: dict[str, Callable[[Work], Call]] = {
    OURS: ours,
    PYG: pyg,
    PYG_SCATTER: pyg_scatter,
    PLAIN: plain,
    SEGMENT: segment,
    DGL: dgl,
    MASK: sdpa_mask,
}
ON_CUDA = ATTENTION | {COMPILED: compiled_plain, ANEMOI: anemoi}
ADDITIVE: dict[str, Callable[[Work], Call]] = {
    OURS: ours_additive,
    PYG: pyg_additive,
    PYG_SCATTER: pyg_scatter_additive,
    PLAIN: plain_additive,
    DGL: dgl_additive,
}


def absent(device: str = "cpu") -> dict[str, str]:
    """Return the peers that cannot run here, with the reason."""
    missing = {}
    if not HAS_SCATTER:
        missing |= dict.fromkeys((PYG_SCATTER, SEGMENT), "torch-scatter is not installed")
    if find_spec("dgl") is None:
        missing[DGL] = "dgl is not installed; dgl==1.1.3 works with this torch on a CPU"
    elif device != "cpu":
        missing[DGL] = "the dgl that works with this torch is for CPUs"
    if device != "cpu" and find_spec("anemoi") is None:
        missing[ANEMOI] = "anemoi-models is not installed: pip install --no-deps anemoi-models"
    return missing


def scatter_calls(call: Call, inputs: list[Tensor]) -> int:
    """Count the calls of torch-scatter in a call of a peer, to verify the effect of the flag."""
    import torch_scatter

    count, plain_segment = 0, torch_scatter.segment_csr

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        count += 1
        return plain_segment(*args, **kwargs)

    torch_scatter.segment_csr = counted
    try:
        call(*inputs)
    finally:
        torch_scatter.segment_csr = plain_segment
    return count


def _softmax(logits: Tensor, target: Tensor, nodes: int) -> Tensor:
    index = target.unsqueeze(-1).expand_as(logits)
    largest = logits.new_zeros(nodes, logits.shape[1])
    largest.scatter_reduce_(0, index, logits.detach(), "amax", include_self=False)
    weights = (logits - largest.index_select(0, target)).exp()
    total = logits.new_zeros(nodes, logits.shape[1]).index_add(0, target, weights)
    return weights / total.clamp(min=1e-16).index_select(0, target)


def _gathered(weights: Tensor, v: Tensor, edge_index: Tensor) -> Tensor:
    messages = weights.unsqueeze(-1) * v.index_select(0, edge_index[0])
    return torch.zeros_like(v).index_add(0, edge_index[1], messages)


def _dgl(work: Work) -> tuple[Any, Any]:
    os.environ.setdefault("DGLBACKEND", "pytorch")
    import dgl
    import dgl.ops

    graph = dgl.graph((work.edge_index[0], work.edge_index[1]), num_nodes=work.nodes)
    graph.create_formats_()
    return graph, dgl.ops
