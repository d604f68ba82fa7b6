"""The forward kernel, online softmax by target row; and the kernel that turns logits to weights."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl

from graphformer.ops.triton.tile_ops import (
    dropout_mask,
    finite_max,
    gather_rows,
    load_edge_ids,
    load_edge_rows,
    load_edge_value,
    load_rows,
    load_slots,
    load_units,
    logits,
    online_softmax,
    store_rows,
    weighted_logits,
)


@triton.jit(do_not_specialize=["count"])
def forward(
    q, k, v, vector, u, edge, bias, weight, seed,
    indptr, indices, edge_ids, rows, begins,
    out, z, lse, total, edge_logits,
    q_stride, k_stride, v_stride, bias_stride, bias_head, weight_stride, weight_head,
    count, scale, slope, threshold, keep_scale,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, REPEAT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, DE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write out_i = sum_j p_ij v_j, z_i = sum_j p_ij e_ij and the log-sum-exp, by row.

    `edge_logits`, if it is given, receives the logits by edge. With `begins` the items are parts of
    rows: out and z receive sums before division, lse the largest logit, and total the sum of the
    exponentials, by item.
    """
    item, head, row, begin, end, live = load_units(rows, begins, indptr, count, HEADS, CHUNK, UNITS)
    FEATURES: tl.constexpr = edge is not None and not RECTIFIED
    # The row's query [units, 1, D], with the scale of the logits.
    q_i = load_rows(q, row, q_stride, head, live, D, BLOCK_D) * scale
    a = tl.full([UNITS, 1, BLOCK_D], 1.0, tl.float32)
    if vector is not None:
        a = load_rows(vector, row * 0, 0, head, live, D, BLOCK_D)
    u_i = None
    if FEATURES:
        u_i = load_rows(u, row, HEADS * DE, head, live, DE, BLOCK_E) * scale
        acc_e = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
    m = tl.full([UNITS, LANES], float("-inf"), tl.float32)
    sum_p = tl.zeros([UNITS, LANES], tl.float32)
    acc_v = tl.zeros([UNITS, LANES, BLOCK_V], tl.float32)
    for step in range(0, tl.max(end - begin), LANES):
        # Load the edges of this step and their keys [units, lanes, D].
        slot, mask = load_slots(begin, end, step, LANES)
        j = tl.load(indices + slot, mask=mask, other=0).to(tl.int64)
        edge_id = load_edge_ids(edge_ids, slot, mask)
        e_ij = None
        if edge is not None:
            e_ij = load_edge_rows(edge, edge_id, head, mask, RECTIFIED, HEADS, DE, BLOCK_E)
        k_j = gather_rows(k, j, k_stride, head // REPEAT, mask, D, BLOCK_D)
        # s_ij = w_ij f(q_i, k_j, e_ij) + b_ij, [units, lanes].
        s = logits(q_i, k_j, a, u_i, e_ij, slope, RECTIFIED)
        w = None
        if weight is not None:
            w = load_edge_value(weight, edge_id, head, weight_stride, weight_head, mask)
        s = weighted_logits(s, w, bias, edge_id, head, bias_stride, bias_head, mask)
        if edge_logits is not None:
            tl.store(edge_logits + edge_id * HEADS + head[:, None], s, mask=mask)
        s = tl.where(mask, s, float("-inf"))
        # The sum of p is that before dropout; only the values are dropped.
        m, sum_p, fade, p = online_softmax(m, sum_p, s)
        if seed is not None:
            p = tl.where(dropout_mask(seed, slot, head, threshold, HEADS), p * keep_scale, 0.0)
        # acc = acc exp(m_old - m) + p_ij v_j, [units, lanes, Dv]; the same for edge features.
        v_j = gather_rows(v, j, v_stride, head // REPEAT, mask, DV, BLOCK_V)
        acc_v = acc_v * fade[:, :, None] + p[:, :, None] * v_j
        if FEATURES:
            acc_e = acc_e * fade[:, :, None] + p[:, :, None] * e_ij

    # Combine the lanes of each unit: sum_l exp(m_l - max m) acc_l.
    top = tl.max(m, 1)
    base = finite_max(top)
    share = tl.exp(m - base[:, None])
    sum_p = tl.sum(sum_p * share, 1)
    result = tl.sum(acc_v * share[:, :, None], 1)
    at, divisor = row, tl.where(sum_p == 0, 1.0, sum_p)
    if begins is not None:  # a part of a row: the division comes after the parts are combined
        at, divisor = item, tl.full([UNITS], 1.0, tl.float32)
        tl.store(total + at * HEADS + head, sum_p, mask=live)
    else:  # without edges lse is infinite, so that exp(s - lse) = 0 in the backward pass
        top = tl.where(sum_p == 0, float("inf"), base + tl.log(divisor))
    tl.store(lse + at * HEADS + head, top, mask=live)
    store_rows(out, at, HEADS * DV, head, result / divisor[:, None], live, DV, BLOCK_V)
    if FEATURES:
        result = tl.sum(acc_e * share[:, :, None], 1) / divisor[:, None]
        store_rows(z, at, HEADS * DE, head, result, live, DE, BLOCK_E)


@triton.jit(do_not_specialize=["count"])
def logits_to_weights(
    edge_logits, lse, seed, indptr, edge_ids, rows, begins, count, threshold, keep_scale,
    HEADS: tl.constexpr, CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Replace logits s_ij [E, H] by the weights exp(s_ij - lse_i), after dropout, in place."""
    _, head, row, begin, end, live = load_units(rows, begins, indptr, count, HEADS, CHUNK, UNITS)
    lse_i = tl.load(lse + row * HEADS + head, mask=live, other=0)
    for step in range(0, tl.max(end - begin), LANES):
        slot, mask = load_slots(begin, end, step, LANES)
        at = edge_logits + load_edge_ids(edge_ids, slot, mask) * HEADS + head[:, None]
        p = tl.exp(tl.load(at, mask=mask, other=float("-inf")) - lse_i[:, None])
        if seed is not None:
            p = tl.where(dropout_mask(seed, slot, head, threshold, HEADS), p * keep_scale, 0.0)
        tl.store(at, p, mask=mask)
