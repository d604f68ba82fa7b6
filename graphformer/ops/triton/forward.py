"""The forward kernel: online softmax by target row, and what turns logits into weights."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl

from graphformer.ops.triton.pieces import (
    edge_numbers,
    edge_rows,
    edge_value,
    gathered,
    kept,
    my_units,
    own_rows,
    scores,
    store_rows,
)


@triton.jit(do_not_specialize=["count"])
def forward(
    q, k, v, vector, u, edge, bias, weight, seed,
    indptr, indices, edge_ids, rows, begins,
    out, z, lse, total, logits,
    q_stride, k_stride, v_stride, bias_stride, bias_head, weight_stride, weight_head,
    count, scale, slope, threshold, keep_scale,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, REPEAT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, DE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write out, log-sum-exp and the weighted sum z of edge features, by row; logits by edge.

    With `begins` the items are parts of rows: out and z get sums before division, lse the largest
    logit and `total` the sum of the exponentials, by item.
    """
    item, head, row, begin, end, live = my_units(rows, begins, indptr, count, HEADS, CHUNK, UNITS)
    FEATURES: tl.constexpr = edge is not None and not RECTIFIED
    mine = own_rows(q, row, q_stride, head, live, D, BLOCK_D) * scale
    a = tl.full([UNITS, 1, BLOCK_D], 1.0, tl.float32)
    if vector is not None:
        a = own_rows(vector, row * 0, 0, head, live, D, BLOCK_D)
    asked = None
    if FEATURES:
        asked = own_rows(u, row, HEADS * DE, head, live, DE, BLOCK_E) * scale
        extra = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
    largest = tl.full([UNITS, LANES], float("-inf"), tl.float32)
    summed = tl.zeros([UNITS, LANES], tl.float32)
    acc = tl.zeros([UNITS, LANES, BLOCK_V], tl.float32)
    for step in range(0, tl.max(end - begin), LANES):
        slot = begin[:, None] + (step + tl.arange(0, LANES))[None, :]
        there = slot < end[:, None]
        node = tl.load(indices + slot, mask=there, other=0).to(tl.int64)
        number = edge_numbers(edge_ids, slot, there)
        carried = None
        if edge is not None:
            carried = edge_rows(edge, number, head, there, RECTIFIED, HEADS, DE, BLOCK_E)
        theirs = gathered(k, node, k_stride, head // REPEAT, there, D, BLOCK_D)
        s = scores(mine, theirs, a, asked, carried, slope, RECTIFIED)
        if weight is not None:
            s *= edge_value(weight, number, head, weight_stride, weight_head, there)
        if bias is not None:
            s += edge_value(bias, number, head, bias_stride, bias_head, there)
        if logits is not None:
            tl.store(logits + number * HEADS + head[:, None], s, mask=there)
        s = tl.where(there, s, float("-inf"))

        top = tl.maximum(largest, s)
        base = tl.where(top == float("-inf"), 0.0, top)
        fade, p = tl.exp(largest - base), tl.exp(s - base)
        largest, summed = top, summed * fade + p
        if seed is not None:
            p = tl.where(kept(seed, slot, head, threshold, HEADS), p * keep_scale, 0.0)
        values = gathered(v, node, v_stride, head // REPEAT, there, DV, BLOCK_V)
        acc = acc * fade[:, :, None] + p[:, :, None] * values
        if FEATURES:
            extra = extra * fade[:, :, None] + p[:, :, None] * carried

    # The lanes of each unit, put together.
    top = tl.max(largest, 1)
    base = tl.where(top == float("-inf"), 0.0, top)
    share = tl.exp(largest - base[:, None])
    summed = tl.sum(summed * share, 1)
    result = tl.sum(acc * share[:, :, None], 1)
    at, divisor = row, tl.where(summed == 0, 1.0, summed)
    if begins is not None:
        at, divisor = item, tl.full([UNITS], 1.0, tl.float32)
        tl.store(total + at * HEADS + head, summed, mask=live)
    else:  # a row without edges in effect gets weights of zero from an infinite log-sum-exp
        top = tl.where(summed == 0, float("inf"), base + tl.log(divisor))
    tl.store(lse + at * HEADS + head, top, mask=live)
    store_rows(out, at, HEADS * DV, head, result / divisor[:, None], live, DV, BLOCK_V)
    if FEATURES:
        result = tl.sum(extra * share[:, :, None], 1) / divisor[:, None]
        store_rows(z, at, HEADS * DE, head, result, live, DE, BLOCK_E)


@triton.jit(do_not_specialize=["count"])
def weigh(
    logits, lse, seed, indptr, edge_ids, rows, begins, count, threshold, keep_scale,
    HEADS: tl.constexpr, CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Turn logits [E, H] into the weights as they are applied, in place."""
    _, head, row, begin, end, live = my_units(rows, begins, indptr, count, HEADS, CHUNK, UNITS)
    base = tl.load(lse + row * HEADS + head, mask=live, other=0)
    for step in range(0, tl.max(end - begin), LANES):
        slot = begin[:, None] + (step + tl.arange(0, LANES))[None, :]
        there = slot < end[:, None]
        at = logits + edge_numbers(edge_ids, slot, there) * HEADS + head[:, None]
        p = tl.exp(tl.load(at, mask=there, other=float("-inf")) - base[:, None])
        if seed is not None:
            p = tl.where(kept(seed, slot, head, threshold, HEADS), p * keep_scale, 0.0)
        tl.store(at, p, mask=there)
