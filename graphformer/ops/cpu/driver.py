"""Forward and backward pass over plain tensors: allocates results and runs kernels in order."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from graphformer.ops.common import keep_scale
from graphformer.ops.cpu.kernel_cache import kernel, shape_constants, step
from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import CHUNK
from graphformer.ops.cpu.kernels.optional_steps import SPAN
from graphformer.ops.cpu.launch import Table, Value, WorkItems, run, work_items
from graphformer.ops.fused.operands import (
    ADDITIVE,
    DOT,
    GATV2,
    Cotangents,
    EdgeGradients,
    Gradients,
    Inputs,
    Outputs,
    Settings,
)

TILE = 64
"""Edges per tile of the forward pass and of the backward pass by source."""
ROW_TILE = CHUNK + 32
"""Largest padded tile of the backward pass by target, whose tiles are whole rows."""
JOIN_LANES = 8


def forward(x: Inputs, settings: Settings, return_weights: bool) -> Outputs:
    """Return out [M, H, Dv], z [M, H, F], log-sum-exp [M, H] and weights [E, H] (or empty)."""
    x, kind = _kernel_inputs(x), settings.kind
    table, constants = _table(x, settings, return_weights)
    (targets, heads), width = x.q.shape[:2], _width(x, kind)
    value_width, edge_width, num_edges = x.v.shape[2], _edge_width(x, kind), x.indices.shape[0]
    out = x.v.new_empty(targets, heads, value_width)
    z = x.v.new_empty(targets, heads, edge_width)
    lse = x.v.new_empty(targets, heads)
    weights = x.v.new_empty(num_edges if return_weights else 0, heads)
    work = work_items(x.indptr, num_edges)
    table.update(_rows(x, work, x.indptr, x.indices, heads * (value_width + edge_width + 2)))
    table.update({at.OUT: out, at.Z: z, at.LSE: lse, at.TILE_STRIDE: TILE, at.SLOTS: x.positions})
    if return_weights and num_edges:
        table.update({at.WEIGHTS: weights})
    double = x.v.dtype == torch.float64
    scratch = heads * (2 * TILE + width + value_width + 2 * edge_width + 2)
    run(kernel("forward", double, kind, *constants), work.num_items, table, scratch)
    if work.num_hubs:
        run(kernel("forward_join", double, JOIN_LANES), work.num_hubs, table, 0)
    if return_weights and num_edges:
        run(kernel("weights", double, constants[0]), work.num_items, table, scratch)
    return out, z, lse, weights


def backward(
    x: Inputs, settings: Settings, cotangents: Cotangents, needed: EdgeGradients
) -> Gradients:
    """Return the gradients. The output is not read: delta is summed in the pass by target."""
    x = _kernel_inputs(x)
    table, constants = _table(x, settings, cotangents.dweights is not None)
    dtype = x.v.dtype
    dout, delta = contiguous_rows(cotangents.dout, dtype), torch.empty_like(cotangents.lse)
    table.update({
        at.LSE: cotangents.lse, at.DELTA: delta, at.DOUT: dout, at.DOUT_STRIDE: dout.stride(0),
        at.DZ: _dense(cotangents.dz, dtype), at.DWEIGHTS: _dense(cotangents.dweights, dtype),
    })  # fmt: skip
    edge_grads = _edge_gradients(x, needed)
    dq, du, dvector = _by_target(x, settings.kind, table.with_values(edge_grads), delta, constants)
    dk, dv = _by_source(x, settings.kind, table, constants)
    edge, bias, edge_weight = map(edge_grads.get, (at.DEDGE, at.DBIAS, at.DWEIGHT))
    grads = (dq, dk, dv, dvector, du, edge, bias, edge_weight)
    return Gradients._make(x.v.new_empty(0) if g is None else g for g in grads)


def _by_target(
    x: Inputs, kind: int, table: Table, delta: Tensor, constants: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq [M, H, D], du [M, H, F] and dvector [H, D] (or empty).

    Fills delta and the gradients of edge values in the table.
    """
    double = x.v.dtype == torch.float64
    heads, width, edge_width = x.q.shape[1], _width(x, kind), _edge_width(x, kind)
    dq = torch.empty_like(x.q, memory_format=torch.contiguous_format)
    du = x.v.new_empty(x.q.shape[0], heads, edge_width)
    work = work_items(x.indptr, x.indices.shape[0])
    dvectors = x.v.new_empty(work.num_items if kind == GATV2 else 0, heads, width)
    rows = _rows(x, work, x.indptr, x.indices, heads * (width + edge_width))
    table.update(rows)
    table.update({at.DQ: dq, at.DU: du, at.DVECTOR: dvectors, at.PHASE: 0, at.SLOTS: x.positions})
    by_target = kernel("by_target", double, kind, *constants)
    scratch = heads * (width + 2 * edge_width + 4 * ROW_TILE)
    run(by_target, work.num_items, table, scratch)
    if work.num_hubs:  # delta of split rows first, then what depends on it
        _join(work, rows[at.PARTIAL], delta, None)
        table.update({at.PHASE: 1})
        run(by_target, work.num_items, table, scratch)
        _join(work, rows[at.PARTIAL], dq, du)
    return dq, du, dvectors.sum(0) if kind == GATV2 else x.v.new_empty(0)


def _by_source(
    x: Inputs, kind: int, table: Table, constants: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return dk [N, Hkv, D] and dv [N, Hkv, Dv]; reads delta."""
    double = x.v.dtype == torch.float64
    heads, kv_heads = x.q.shape[1], x.v.shape[1]
    width, value_width = _width(x, kind), x.v.shape[2]
    dk = torch.empty_like(x.k, memory_format=torch.contiguous_format)
    dv = torch.empty_like(x.v, memory_format=torch.contiguous_format)
    indptr, targets, slots = x.by_source or by_source(x.indptr, x.indices, x.k.shape[0])
    work = work_items(indptr, x.indices.shape[0])
    rows = _rows(x, work, indptr, targets, kv_heads * (width + value_width))
    table.update(rows)
    table.update({at.SLOTS: slots, at.TILE_STRIDE: TILE, at.DK: dk, at.DV: dv})
    scratch = heads * 3 * TILE + kv_heads * width
    run(kernel("by_source", double, kind, *constants), work.num_items, table, scratch)
    if work.num_hubs:
        _join(work, rows[at.PARTIAL], dk, dv)
    return dk, dv


def dropout(x: Tensor, probability: float, seed: Tensor) -> Tensor:
    """x with each element dropped at that probability, the others times 1 / (1 - probability)."""
    double = x.dtype == torch.float64
    values = (x if double else x.float()).contiguous()
    out = torch.empty_like(values)
    arrays: dict[int, Value] = {at.WIDTH: x.numel(), at.V: values, at.OUT: out}
    table = Table(_dropout_values(probability, seed) | arrays)
    run(kernel("dropout", double), -(-x.numel() // SPAN), table, 0)
    return out.to(x.dtype)


def by_source(indptr: Tensor, indices: Tensor, sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `CSR.by_source` of a CSR: indptr [N + 1], targets [E] and slots [E]."""
    dtype = indptr.dtype
    ordered, slots = indices.to(dtype).sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(sources + 1, dtype=dtype))
    targets = torch.searchsorted(indptr, slots.to(dtype), right=True) - 1
    return starts.to(dtype), targets.to(dtype), slots.to(dtype)


def _edge_gradients(x: Inputs, needed: EdgeGradients) -> dict[int, Tensor]:
    """Room for the gradients of edge values that are needed, by field of the table.

    Zeros where a head does not have every edge.
    """
    make = x.v.new_empty if x.positions is None else x.v.new_zeros
    heads, grads = x.q.shape[1], {}
    if needed.edge and x.edge is not None:
        grads[at.DEDGE] = make(x.edge.shape)
    if needed.bias and x.bias is not None:
        grads[at.DBIAS] = make(x.bias.shape)
    if needed.edge_weight and x.edge_weight is not None:
        grads[at.DWEIGHT] = make(len(x.edge_weight), heads)
    return grads


def _join(work: WorkItems, partial: Value, first: Tensor, second: Tensor | None) -> None:
    """Sum the parts of each split row into its row of `first` and `second`."""
    table = Table({
        at.HUBS: work.hubs_address, at.PARTIAL: partial, at.OUT: first, at.WIDTH: first[0].numel(),
        at.Z: second, at.VALUE_WIDTH: 0 if second is None else second[0].numel(),
    })  # fmt: skip
    run(kernel("sum_join", first.dtype == torch.float64, JOIN_LANES), work.num_hubs, table, 0)


# The argument table -----------------------------------------------------------------------------


def _width(x: Inputs, kind: int) -> int:
    """The head width D of queries and keys; 1 for additive scores."""
    return 1 if kind == ADDITIVE else x.q.shape[2]


def _edge_width(x: Inputs, kind: int) -> int:
    """The width F of edge features, which only dot products have."""
    return x.edge.shape[1] if x.edge is not None and kind == DOT else 0


def _table(x: Inputs, settings: Settings, weights: bool) -> tuple[Table, tuple[int, ...]]:
    """The values that all passes share, and the constants of the kernels.

    Args:
        x, settings: of the call.
        weights: whether weights or their gradients are read or written.
    """
    kind, scale, slope, dropout = settings
    bias, weight = x.bias, x.edge_weight
    of_edges = (x.edge, bias, weight, x.seed)
    table, constants = _layout(
        x.v.dtype, x.indptr.dtype, kind, float(scale), float(slope),
        (x.q.shape[1], x.v.shape[1], _width(x, kind), x.v.shape[2], _edge_width(x, kind)),
        (x.q.stride(0), x.k.stride(0), x.v.stride(0)),
        x.edge is not None and kind != ADDITIVE,
        None if bias is None else bias.stride(),
        None if weight is None else (weight.stride(0), weight.shape[1] > 1 and weight.stride(1)),
        x.seed is not None,
        weights or any(y is not None for y in of_edges),
        x.positions is not None,
    )  # fmt: skip
    arrays = (at.Q, x.q), (at.K, x.k), (at.V, x.v), (at.EDGE_IDS, x.edge_ids)
    others = (at.VECTOR, x.vector), (at.U, x.u), (at.EDGE, x.edge)
    logits = (at.BIAS, bias), (at.WEIGHT, weight)
    values: dict[int, Value] = {
        field: y for field, y in (*arrays, *others, *logits) if y is not None
    }
    if x.seed is not None:
        values |= _dropout_values(dropout, x.seed)
    return table.with_values(values), constants


@lru_cache(maxsize=1024)
def _layout(
    dtype: torch.dtype,
    index_dtype: torch.dtype,
    kind: int,
    scale: float,
    slope: float,
    sizes: tuple[int, int, int, int, int],
    strides: tuple[int, int, int],
    edges: bool,
    bias_strides: tuple[int, int] | None,
    weight_strides: tuple[int, int] | None,
    drops: bool,
    by_edge: bool,
    single: bool,
) -> tuple[Table, tuple[int, ...]]:
    """The table of a call without its arrays, and the constants of the kernels.

    Args:
        dtype: of the numbers.
        index_dtype: of the edges.
        kind, scale, slope: of `Settings`.
        sizes: H, Hkv, D, Dv and F.
        strides: between rows of q, k and v.
        edges: whether kernels compute with edge features or edge keys.
        bias_strides, weight_strides: between edges and between heads; None if there is none.
        drops: whether there is dropout.
        by_edge: whether a step reads or writes values of edges, which it finds by slot or id.
        single: whether there is one head only, as for edges by head.
    """
    double = dtype == torch.float64
    heads, kv_heads, width, value_width, edge_width = sizes
    values: dict[int, Value] = {
        at.WIDE: index_dtype == torch.int64,
        at.HEADS: heads, at.KV_HEADS: kv_heads, at.REPEAT: heads // kv_heads,
        at.WIDTH: width, at.VALUE_WIDTH: value_width, at.EDGE_WIDTH: edge_width,
        at.Q_STRIDE: strides[0], at.K_STRIDE: strides[1], at.V_STRIDE: strides[2],
        at.SCALE: scale, at.SLOPE: slope,
    }  # fmt: skip
    steps = {at.WRITE_EDGES, at.ADD_EDGES}
    if bias_strides is not None:
        steps.add(at.ADD_BIAS)
        values |= {at.BIAS_STRIDE: bias_strides[0], at.BIAS_HEAD: bias_strides[1]}
    if weight_strides is not None:
        steps.add(at.MULTIPLY)
        values |= {at.WEIGHT_STRIDE: weight_strides[0], at.WEIGHT_HEAD: weight_strides[1]}
    if drops:
        steps.add(at.DROP)
    values |= {field: step(at.FIELDS[field], double) for field in steps}
    values[at.LIST_EDGES] = step("list_edges" if by_edge else "list_neighbours", double)
    widths = 0 if kind == ADDITIVE else width, value_width
    constants = shape_constants(double, *widths)
    # One head has kernels of its own for dot products of common widths only: compiling takes time.
    own_kernels = single and kind == DOT and constants[1] > 0 and not edges
    return Table(values), (*constants, int(edges), int(own_kernels))


def _rows(
    x: Inputs, work: WorkItems, indptr: Tensor, neighbours: Tensor, record: int
) -> dict[int, Value]:
    """The values of a pass over rows: edges, work items, and a record for each part of a row."""
    return {
        at.INDPTR: indptr, at.NEIGHBOURS: neighbours, at.NUM_SLOTS: neighbours.shape[0],
        at.ITEMS: work.items_address,
        at.HUBS: work.hubs_address,
        at.PARTIAL: x.v.new_empty(work.num_parts, record) if work.num_parts else None,
    }  # fmt: skip


def _dropout_values(dropout: float, seed: Tensor) -> dict[int, Value]:
    """The values of dropout: an element is kept if its 24 random bits reach the threshold."""
    threshold = round(dropout * 2**24)
    return {at.DROPOUT: threshold, at.KEEP_SCALE: keep_scale(dropout), at.SEED: int(seed)}


# Inputs -----------------------------------------------------------------------------------------


def _kernel_inputs(x: Inputs) -> Inputs:
    """The inputs in one floating-point type, with contiguous rows of q, k and v."""
    q, k, v, vector, u, edge, bias, edge_weight = x[:8]
    dtype = torch.float32
    for y in x[:8]:
        if y is not None and y.dtype == torch.float64:
            dtype = torch.float64
    scores = q.ndim == 2
    return Inputs(
        contiguous_rows(q, dtype, dense=scores), contiguous_rows(k, dtype, dense=scores),
        contiguous_rows(v, dtype), _dense(vector, dtype), _dense(u, dtype), _dense(edge, dtype),
        None if bias is None else bias.detach().to(dtype),
        None if edge_weight is None else edge_weight.detach().to(dtype),
        *x[8:],
    )  # fmt: skip


def _dense(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.detach().to(dtype).contiguous()


def contiguous_rows(x: Tensor, dtype: torch.dtype, dense: bool = False) -> Tensor:
    """x in a dtype, copied unless each row [H, D] is contiguous, or, if `dense`, all of it is."""
    x = x.detach() if x.dtype == dtype else x.detach().to(dtype)
    if x.is_contiguous():
        return x
    regular = not dense and x.ndim == 3 and x.stride()[1:] == (x.shape[2], 1)
    return x if regular and x.stride(0) >= 0 else x.contiguous()
