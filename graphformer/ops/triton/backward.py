"""The backward kernels: by target for queries, by source for keys, values and edge tensors.

Weights are recomputed from the log-sum-exp: p_ij = exp(s_ij - lse_i). With the gradient dp_ij of a
weight and delta_i = sum_j p_ij dp_ij, the gradient of a logit is ds_ij = p_ij (dp_ij - delta_i)
(Dao et al., 2022, "FlashAttention", appendix B.2).

The kernel by target computes delta in the loop that uses it: it sums p (dp - c) g and p g for the
shift c_i = out_i . dout_i, which is delta up to the rounding of out, and g_ij = ds_ij / dq_i. With
the small sum eps_i = delta_i - c_i = sum_j p_ij (dp_ij - c_i) the result is

    dq_i = sum_j p (dp - c) g - eps_i sum_j p g.

So each edge is loaded once, and no large numbers cancel. The kernel by source reads delta.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl

from graphformer.ops.triton.tile_ops import (
    dropout_mask,
    gather_rows,
    load_edge_ids,
    load_edge_rows,
    load_edge_value,
    load_rows,
    load_slots,
    load_units,
    logit_derivative,
    logits,
    rectified,
    store_edge_rows,
    store_rows,
    weight_gradient,
    weighted_logits,
)


@triton.jit(do_not_specialize=["count"])
def by_target(
    q, k, v, vector, u, edge, bias, weight, seed,
    indptr, indices, edge_ids, rows, begins,
    lse, out, dout, dz, dweights,
    dq, dq_p, du, du_p, delta,
    q_stride, k_stride, v_stride, bias_stride, bias_head, weight_stride, weight_head,
    dout_stride, dq_stride, du_stride, delta_stride,
    count, scale, slope, threshold, keep_scale,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, REPEAT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, DE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write dq, du and delta by row.

    With `begins` by item: dq and du receive sum p (dp - c) g, dq_p and du_p receive sum p g, and
    delta receives eps.
    """
    item, head, row, begin, end, live = load_units(rows, begins, indptr, count, HEADS, CHUNK, UNITS)
    FEATURES: tl.constexpr = edge is not None and not RECTIFIED
    # Tiles of the row [units, 1, width]: query, output and its gradient, log-sum-exp.
    q_i = load_rows(q, row, q_stride, head, live, D, BLOCK_D) * scale
    a = tl.full([UNITS, 1, BLOCK_D], 1.0, tl.float32)
    if vector is not None:
        a = load_rows(vector, row * 0, 0, head, live, D, BLOCK_D)
    u_i, dz_i = None, None
    if FEATURES:
        u_i = load_rows(u, row, HEADS * DE, head, live, DE, BLOCK_E) * scale
        dz_i = load_rows(dz, row, HEADS * DE, head, live, DE, BLOCK_E)
        acc_ds_e = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
        acc_p_e = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
    dout_i = load_rows(dout, row, dout_stride, head, live, DV, BLOCK_V)
    out_i = load_rows(out, row, HEADS * DV, head, live, DV, BLOCK_V)
    c = tl.sum(dout_i * out_i, 2)  # [units, 1]
    lse_i = tl.load(lse + row * HEADS + head, mask=live, other=0)
    acc_eps = tl.zeros([UNITS, LANES], tl.float32)
    acc_ds = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
    acc_p = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
    for step in range(0, tl.max(end - begin), LANES):
        # Load the edges of this step and their keys [units, lanes, D].
        slot, mask = load_slots(begin, end, step, LANES)
        j = tl.load(indices + slot, mask=mask, other=0).to(tl.int64)
        edge_id = load_edge_ids(edge_ids, slot, mask)
        e_ij = None
        if edge is not None:
            e_ij = load_edge_rows(edge, edge_id, head, mask, RECTIFIED, HEADS, DE, BLOCK_E)
        k_j = gather_rows(k, j, k_stride, head // REPEAT, mask, D, BLOCK_D)
        # Recompute p_ij = exp(s_ij - lse_i), [units, lanes].
        s = logits(q_i, k_j, a, u_i, e_ij, slope, RECTIFIED)
        w = None
        if weight is not None:
            w = load_edge_value(weight, edge_id, head, weight_stride, weight_head, mask)
        s = weighted_logits(s, w, bias, edge_id, head, bias_stride, bias_head, mask)
        p = tl.exp(tl.where(mask, s - lse_i[:, None], float("-inf")))
        # dp_ij, 0 for dropped weights.
        v_j = gather_rows(v, j, v_stride, head // REPEAT, mask, DV, BLOCK_V)
        dp = weight_gradient(dout_i, v_j, dz_i, e_ij, dweights, edge_id, head, mask, HEADS)
        if seed is not None:
            kept = dropout_mask(seed, slot, head, threshold, HEADS)
            dp = tl.where(kept, dp * keep_scale, 0.0)
        # p (dp - c), and its sum eps over edges.
        ds = tl.where(mask, p * (dp - c), 0.0)
        acc_eps += ds
        if weight is not None:  # s = w f(q, k): the gradient of f has the factor w
            p, ds = p * w, ds * w
        # sum p (dp - c) g and sum p g, [units, lanes, D]; for u, g is e_ij.
        g = logit_derivative(q_i, k_j, a, e_ij, slope, RECTIFIED)
        acc_ds += ds[:, :, None] * g
        acc_p += p[:, :, None] * g
        if FEATURES:
            acc_ds_e += ds[:, :, None] * e_ij
            acc_p_e += p[:, :, None] * e_ij

    eps = tl.sum(acc_eps, 1)
    dq_i, dq_p_i = tl.sum(acc_ds, 1), tl.sum(acc_p, 1)
    if begins is not None:  # a part of a row: the sums are combined by the next kernel
        tl.store(delta + item * delta_stride + head, eps, mask=live)
        store_rows(dq, item, dq_stride, head, dq_i, live, D, BLOCK_D)
        store_rows(dq_p, item, dq_stride, head, dq_p_i, live, D, BLOCK_D)
        if FEATURES:
            store_rows(du, item, du_stride, head, tl.sum(acc_ds_e, 1), live, DE, BLOCK_E)
            store_rows(du_p, item, du_stride, head, tl.sum(acc_p_e, 1), live, DE, BLOCK_E)
    else:  # delta = c + eps, and dq = (sum p (dp - c) g - eps sum p g) scale
        tl.store(delta + row * delta_stride + head, tl.sum(c, 1) + eps, mask=live)
        dq_i = (dq_i - eps[:, None] * dq_p_i) * scale
        store_rows(dq, row, dq_stride, head, dq_i, live, D, BLOCK_D)
        if FEATURES:
            du_i = (tl.sum(acc_ds_e, 1) - eps[:, None] * tl.sum(acc_p_e, 1)) * scale
            store_rows(du, row, du_stride, head, du_i, live, DE, BLOCK_E)


@triton.jit(do_not_specialize=["count"])
def by_source(
    q, k, v, vector, u, edge, bias, weight, seed,
    indptr, targets, slots, edge_ids, rows, begins,
    lse, delta, dout, dz, dweights,
    dk, dv, dvector, dedge, dbias, dweight, applied,
    q_stride, k_stride, v_stride, bias_stride, bias_head, weight_stride, weight_head,
    dout_stride, dk_stride, dv_stride,
    count, scale, slope, threshold, keep_scale,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, REPEAT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, DE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write dk and dv by row (by item with `begins`), dvector by item, the others by edge.

    A unit is a source and one of its Hkv heads, in a loop over the H / Hkv query heads of that
    head. Edge features need another kernel, `edge_features`: here `dedge` receives ds and `applied`
    the weights after dropout, [E, H].
    """
    GROUPS: tl.constexpr = HEADS // REPEAT
    item, group, row, begin, end, live = load_units(
        rows, begins, indptr, count, GROUPS, CHUNK, UNITS
    )
    FEATURES: tl.constexpr = edge is not None and not RECTIFIED
    # Tiles of the source: key with the scale of the logits, and value, [units, 1, width].
    k_j = load_rows(k, row, k_stride, group, live, D, BLOCK_D) * scale
    v_j = load_rows(v, row, v_stride, group, live, DV, BLOCK_V)
    acc_k = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
    acc_v = tl.zeros([UNITS, LANES, BLOCK_V], tl.float32)
    for member in range(0, REPEAT):
        head = group * REPEAT + member
        a = tl.full([UNITS, 1, BLOCK_D], 1.0, tl.float32)
        if vector is not None:
            a = load_rows(vector, row * 0, 0, head, live, D, BLOCK_D)
            acc_a = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
        for step in range(0, tl.max(end - begin), LANES):
            # Load the out-edges of this step, with the queries [units, lanes, D] of their targets.
            position, mask = load_slots(begin, end, step, LANES)
            i = tl.load(targets + position, mask=mask, other=0).to(tl.int64)
            slot = tl.load(slots + position, mask=mask, other=0).to(tl.int64)
            edge_id = load_edge_ids(edge_ids, slot, mask)
            by_head = edge_id * HEADS + head[:, None]
            q_i = gather_rows(q, i, q_stride, head, mask, D, BLOCK_D)
            e_ij, u_i = None, None
            if edge is not None:
                e_ij = load_edge_rows(edge, edge_id, head, mask, RECTIFIED, HEADS, DE, BLOCK_E)
            if FEATURES:
                u_i = gather_rows(u, i, HEADS * DE, head, mask, DE, BLOCK_E) * scale
            # Recompute p_ij = exp(s_ij - lse_i), [units, lanes]; f is s before weight and bias.
            f = logits(k_j, q_i, a, u_i, e_ij, slope, RECTIFIED)
            w = None
            if weight is not None:
                w = load_edge_value(weight, edge_id, head, weight_stride, weight_head, mask)
            s = weighted_logits(f, w, bias, edge_id, head, bias_stride, bias_head, mask)
            at = i * HEADS + head[:, None]
            s -= tl.load(lse + at, mask=mask, other=0)
            p = tl.exp(tl.where(mask, s, float("-inf")))
            # dp_ij, and the weight after dropout, which is that of the value.
            dout_i = gather_rows(dout, i, dout_stride, head, mask, DV, BLOCK_V)
            dz_i = None
            if FEATURES:
                dz_i = gather_rows(dz, i, HEADS * DE, head, mask, DE, BLOCK_E)
            dp = weight_gradient(dout_i, v_j, dz_i, e_ij, dweights, edge_id, head, mask, HEADS)
            p_applied = p
            if seed is not None:
                kept = dropout_mask(seed, slot, head, threshold, HEADS)
                dp = tl.where(kept, dp * keep_scale, 0.0)
                p_applied = tl.where(kept, p * keep_scale, 0.0)
            # ds_ij = p_ij (dp_ij - delta_i) = dbias_ij; dweight_ij = ds_ij f_ij.
            ds = tl.where(mask, p * (dp - tl.load(delta + at, mask=mask, other=0)), 0.0)
            if dbias is not None:
                tl.store(dbias + by_head, ds, mask=mask)
            if dweight is not None:
                tl.store(dweight + by_head, ds * f, mask=mask)
            if weight is not None:  # s = w f: the gradient of f has the factor w
                ds *= w
            # dk_j = sum_i ds_ij g_ij and dv_j = sum_i p_ij dout_i, [units, lanes, width].
            g = logit_derivative(k_j, q_i, a, e_ij, slope, RECTIFIED)
            acc_k += ds[:, :, None] * g
            acc_v += p_applied[:, :, None] * dout_i
            if vector is not None:  # not from g, which has the factor a: a may be 0
                acc_a += ds[:, :, None] * rectified(k_j, q_i, e_ij, slope)
            if dedge is not None:
                if RECTIFIED:  # the derivative by the edge's key is that by k_j
                    store_edge_rows(dedge, by_head, ds[:, :, None] * g, mask, D, BLOCK_D)
                else:
                    tl.store(dedge + by_head, ds, mask=mask)
                    tl.store(applied + by_head, p_applied, mask=mask)
        if vector is not None:
            store_rows(dvector, item, HEADS * D, head, tl.sum(acc_a, 1), live, D, BLOCK_D)
    at = row
    if begins is not None:
        at = item
    store_rows(dk, at, dk_stride, group, tl.sum(acc_k, 1) * scale, live, D, BLOCK_D)
    store_rows(dv, at, dv_stride, group, tl.sum(acc_v, 1), live, DV, BLOCK_V)


@triton.jit(do_not_specialize=["count"])
def edge_features(
    u, dz, ds, applied, indptr, edge_ids, rows, begins, dedge, count, scale,
    HEADS: tl.constexpr, DE: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write de_ij = sum_h scale ds_ijh u_ih + applied_ijh dz_ih, [E, de]; a unit is a row."""
    _, zero, row, begin, end, live = load_units(rows, begins, indptr, count, 1, CHUNK, UNITS)
    for step in range(0, tl.max(end - begin), LANES):
        slot, mask = load_slots(begin, end, step, LANES)
        edge_id = load_edge_ids(edge_ids, slot, mask)
        acc = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
        for h in range(0, HEADS):
            head = zero + h
            u_i = load_rows(u, row, HEADS * DE, head, live, DE, BLOCK_E) * scale
            dz_i = load_rows(dz, row, HEADS * DE, head, live, DE, BLOCK_E)
            acc += load_edge_value(ds, edge_id, head, HEADS, 1, mask)[:, :, None] * u_i
            acc += load_edge_value(applied, edge_id, head, HEADS, 1, mask)[:, :, None] * dz_i
        store_edge_rows(dedge, edge_id, acc, mask, DE, BLOCK_E)
