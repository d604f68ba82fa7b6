"""The backward kernels: by target for queries, by source for keys, values and what edges carry.

Weights are recomputed from the log-sum-exp. With delta_i = sum_j p_ij dp_ij a logit's gradient is
p_ij (dp_ij - delta_i). The pass by target makes delta while it needs it already: it sums
p (dp - c) g and p g for a shift c = out . dout, which is delta up to the rounding of out, and
corrects by the small sum e = delta - c at the end: dq = sum p (dp - c) g - e sum p g. So each edge
is gathered once, and nothing large cancels. The pass by source knows delta.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl

from graphformer.ops.triton.pieces import (
    directions,
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
def by_target(
    q, k, v, vector, u, edge, bias, weight, seed,
    indptr, indices, edge_ids, rows, begins,
    lse, out, dout, dz, dweights,
    dq, dq_less, du, du_less, delta,
    q_stride, k_stride, v_stride, bias_stride, bias_head, weight_stride, weight_head,
    dout_stride, dq_stride, du_stride, delta_stride,
    count, scale, slope, threshold, keep_scale,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, REPEAT: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, DE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write dq, du and delta by row.

    With `begins` by item: dq and du get sum p (dp - c) g, those `_less` sum p g and delta gets e.
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
        mine_dz = own_rows(dz, row, HEADS * DE, head, live, DE, BLOCK_E)
        more = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
        more_less = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
    mine_dout = own_rows(dout, row, dout_stride, head, live, DV, BLOCK_V)
    mine_out = own_rows(out, row, HEADS * DV, head, live, DV, BLOCK_V)
    c = tl.sum(mine_dout * mine_out, 2)
    base = tl.load(lse + row * HEADS + head, mask=live, other=0)
    excess = tl.zeros([UNITS, LANES], tl.float32)
    acc = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
    less = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
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
            w = edge_value(weight, number, head, weight_stride, weight_head, there)
            s *= w
        if bias is not None:
            s += edge_value(bias, number, head, bias_stride, bias_head, there)
        p = tl.exp(tl.where(there, s - base[:, None], float("-inf")))

        values = gathered(v, node, v_stride, head // REPEAT, there, DV, BLOCK_V)
        dp = tl.sum(mine_dout * values, 2)
        if FEATURES:
            dp += tl.sum(mine_dz * carried, 2)
        if dweights is not None:
            dp += edge_value(dweights, number, head, HEADS, 1, there)
        if seed is not None:
            dp = tl.where(kept(seed, slot, head, threshold, HEADS), dp * keep_scale, 0.0)
        ds = tl.where(there, p * (dp - c), 0.0)
        excess += ds
        if weight is not None:
            p, ds = p * w, ds * w
        g = directions(mine, theirs, a, carried, slope, RECTIFIED)
        acc += ds[:, :, None] * g
        less += p[:, :, None] * g
        if FEATURES:
            more += ds[:, :, None] * carried
            more_less += p[:, :, None] * carried

    e = tl.sum(excess, 1)
    dq_row, dq_less_row = tl.sum(acc, 1), tl.sum(less, 1)
    if begins is not None:
        tl.store(delta + item * delta_stride + head, e, mask=live)
        store_rows(dq, item, dq_stride, head, dq_row, live, D, BLOCK_D)
        store_rows(dq_less, item, dq_stride, head, dq_less_row, live, D, BLOCK_D)
        if FEATURES:
            store_rows(du, item, du_stride, head, tl.sum(more, 1), live, DE, BLOCK_E)
            store_rows(du_less, item, du_stride, head, tl.sum(more_less, 1), live, DE, BLOCK_E)
    else:
        tl.store(delta + row * delta_stride + head, tl.sum(c, 1) + e, mask=live)
        dq_row = (dq_row - e[:, None] * dq_less_row) * scale
        store_rows(dq, row, dq_stride, head, dq_row, live, D, BLOCK_D)
        if FEATURES:
            du_row = (tl.sum(more, 1) - e[:, None] * tl.sum(more_less, 1)) * scale
            store_rows(du, row, du_stride, head, du_row, live, DE, BLOCK_E)


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

    A unit is a source and one of its own heads; it goes through the query heads that share it.
    Edge features need more than one pass: `dedge` gets ds and `applied` the weights, [E, H].
    """
    GROUPS: tl.constexpr = HEADS // REPEAT
    item, group, row, begin, end, live = my_units(rows, begins, indptr, count, GROUPS, CHUNK, UNITS)
    FEATURES: tl.constexpr = edge is not None and not RECTIFIED
    mine = own_rows(k, row, k_stride, group, live, D, BLOCK_D) * scale
    values = own_rows(v, row, v_stride, group, live, DV, BLOCK_V)
    dk_acc = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
    dv_acc = tl.zeros([UNITS, LANES, BLOCK_V], tl.float32)
    for member in range(0, REPEAT):
        head = group * REPEAT + member
        a = tl.full([UNITS, 1, BLOCK_D], 1.0, tl.float32)
        if vector is not None:
            a = own_rows(vector, row * 0, 0, head, live, D, BLOCK_D)
            a_acc = tl.zeros([UNITS, LANES, BLOCK_D], tl.float32)
        for step in range(0, tl.max(end - begin), LANES):
            place = begin[:, None] + (step + tl.arange(0, LANES))[None, :]
            there = place < end[:, None]
            node = tl.load(targets + place, mask=there, other=0).to(tl.int64)
            slot = tl.load(slots + place, mask=there, other=0).to(tl.int64)
            number = edge_numbers(edge_ids, slot, there)
            by_head = number * HEADS + head[:, None]
            theirs = gathered(q, node, q_stride, head, there, D, BLOCK_D)
            carried, asked = None, None
            if edge is not None:
                carried = edge_rows(edge, number, head, there, RECTIFIED, HEADS, DE, BLOCK_E)
            if FEATURES:
                asked = gathered(u, node, HEADS * DE, head, there, DE, BLOCK_E) * scale
            s = scores(mine, theirs, a, asked, carried, slope, RECTIFIED)
            raw = s
            if weight is not None:
                w = edge_value(weight, number, head, weight_stride, weight_head, there)
                s *= w
            if bias is not None:
                s += edge_value(bias, number, head, bias_stride, bias_head, there)
            at = node * HEADS + head[:, None]
            s -= tl.load(lse + at, mask=there, other=0)
            p = tl.exp(tl.where(there, s, float("-inf")))

            their_dout = gathered(dout, node, dout_stride, head, there, DV, BLOCK_V)
            dp = tl.sum(their_dout * values, 2)
            if FEATURES:
                dp += tl.sum(gathered(dz, node, HEADS * DE, head, there, DE, BLOCK_E) * carried, 2)
            if dweights is not None:
                dp += edge_value(dweights, number, head, HEADS, 1, there)
            given = p
            if seed is not None:
                keep = kept(seed, slot, head, threshold, HEADS)
                dp = tl.where(keep, dp * keep_scale, 0.0)
                given = tl.where(keep, p * keep_scale, 0.0)
            ds = tl.where(there, p * (dp - tl.load(delta + at, mask=there, other=0)), 0.0)
            if dbias is not None:
                tl.store(dbias + by_head, ds, mask=there)
            if dweight is not None:
                tl.store(dweight + by_head, ds * raw, mask=there)
            if weight is not None:
                ds *= w
            g = directions(mine, theirs, a, carried, slope, RECTIFIED)
            dk_acc += ds[:, :, None] * g
            dv_acc += given[:, :, None] * their_dout
            if vector is not None:  # g / a would be the same, were a never 0
                x = mine + theirs
                if carried is not None:
                    x += carried
                a_acc += ds[:, :, None] * tl.where(x > 0, x, x * slope)
            if dedge is not None:
                if RECTIFIED:
                    column = tl.arange(0, BLOCK_D)
                    mask = there[:, :, None] & (column < D)[None, None, :]
                    into = dedge + (by_head * D)[:, :, None] + column[None, None, :]
                    tl.store(into, ds[:, :, None] * g, mask=mask)
                else:
                    tl.store(dedge + by_head, ds, mask=there)
                    tl.store(applied + by_head, given, mask=there)
        if vector is not None:
            store_rows(dvector, item, HEADS * D, head, tl.sum(a_acc, 1), live, D, BLOCK_D)
    at = row
    if begins is not None:
        at = item
    store_rows(dk, at, dk_stride, group, tl.sum(dk_acc, 1) * scale, live, D, BLOCK_D)
    store_rows(dv, at, dv_stride, group, tl.sum(dv_acc, 1), live, DV, BLOCK_V)


@triton.jit(do_not_specialize=["count"])
def edge_features(
    u, dz, ds, applied, indptr, edge_ids, rows, begins, dedge, count, scale,
    HEADS: tl.constexpr, DE: tl.constexpr, BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr, UNITS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """dedge[e, :] = sum_h scale ds[e, h] u[i, h, :] + applied[e, h] dz[i, h, :]; units are rows."""
    _, zero, row, begin, end, live = my_units(rows, begins, indptr, count, 1, CHUNK, UNITS)
    column = tl.arange(0, BLOCK_E)
    for step in range(0, tl.max(end - begin), LANES):
        slot = begin[:, None] + (step + tl.arange(0, LANES))[None, :]
        there = slot < end[:, None]
        number = edge_numbers(edge_ids, slot, there)
        acc = tl.zeros([UNITS, LANES, BLOCK_E], tl.float32)
        for h in range(0, HEADS):
            head = zero + h
            asked = own_rows(u, row, HEADS * DE, head, live, DE, BLOCK_E) * scale
            mine_dz = own_rows(dz, row, HEADS * DE, head, live, DE, BLOCK_E)
            acc += edge_value(ds, number, head, HEADS, 1, there)[:, :, None] * asked
            acc += edge_value(applied, number, head, HEADS, 1, there)[:, :, None] * mine_dz
        mask = there[:, :, None] & (column < DE)[None, None, :]
        tl.store(dedge + (number * DE)[:, :, None] + column[None, None, :], acc, mask=mask)
