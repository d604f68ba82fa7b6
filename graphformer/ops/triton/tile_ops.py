"""Device functions shared by the kernels: loads and stores of tiles, logits, softmax, dropout.

A unit is one row and one head; a program has UNITS of them. A tile is [units, lanes, width]: lane l
of a unit handles edges l, l + LANES, l + 2 LANES, ... of its row and has its own partial sums,
which are combined after the last edge. So within the loop over edges, threads exchange data only in
sums over the width.

Names: i is the target of an edge and j its source. `mask` marks the lanes that have an edge, and
`live` the units that have a row.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
# No `from __future__ import annotations`: Triton's interpreter reads the annotations themselves.
import triton
import triton.language as tl

# Units and edges ---------------------------------------------------------------------------------


@triton.jit
def load_units(
    rows, begins, indptr, count,
    HEADS: tl.constexpr, CHUNK: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Return the units of this program: item, head, row, first slot, end slot, live; all [units].

    Units past the last item have no slots.
    """
    unit = tl.program_id(0).to(tl.int64) * UNITS + tl.arange(0, UNITS)
    item, head = unit // HEADS, unit % HEADS
    live = item < count
    row = tl.load(rows + item, mask=live, other=0).to(tl.int64)
    begin = tl.load(indptr + row, mask=live, other=0).to(tl.int64)
    end = tl.load(indptr + row + 1, mask=live, other=0).to(tl.int64)
    if begins is not None:  # the item is a part of a row that is split
        begin = tl.load(begins + item, mask=live, other=0).to(tl.int64)
        end = tl.where(live, tl.minimum(begin + CHUNK, end), begin)
    return item, head, row, begin, end, live


@triton.jit
def load_slots(begin, end, step, LANES: tl.constexpr):
    """Return the slots of the edges in this step of the loop, and their mask, [units, lanes]."""
    slot = begin[:, None] + (step + tl.arange(0, LANES))[None, :]
    return slot, slot < end[:, None]


@triton.jit
def load_edge_ids(edge_ids, slot, mask):
    """Return the position of each slot's edge in the caller's order, [units, lanes]."""
    if edge_ids is not None:
        slot = tl.load(edge_ids + slot, mask=mask, other=0)
    return slot


# Loads and stores --------------------------------------------------------------------------------


@triton.jit
def load_rows(x, row, stride, head, live, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Return x[row, head, :] of each unit, float32 [units, 1, width]."""
    column = tl.arange(0, BLOCK)
    offset = (row * stride + head * WIDTH)[:, None, None] + column[None, None, :]
    inside = live[:, None, None] & (column < WIDTH)[None, None, :]
    return tl.load(x + offset, mask=inside, other=0).to(tl.float32)


@triton.jit
def gather_rows(x, node, stride, head, mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Return x[node, head, :] of the node at the other end of each edge, [units, lanes, width]."""
    column = tl.arange(0, BLOCK)
    offset = (node * stride + (head * WIDTH)[:, None])[:, :, None] + column[None, None, :]
    inside = mask[:, :, None] & (column < WIDTH)[None, None, :]
    return tl.load(x + offset, mask=inside, other=0).to(tl.float32)


@triton.jit
def store_rows(x, row, stride, head, value, live, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """x[row, head, :] = value, [units, width]."""
    column = tl.arange(0, BLOCK)
    offset = (row * stride + head * WIDTH)[:, None] + column[None, :]
    tl.store(x + offset, value, mask=live[:, None] & (column < WIDTH)[None, :])


@triton.jit
def load_edge_rows(
    edge, edge_id, head, mask,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return e_ij, [units, lanes, width].

    If RECTIFIED an edge has a key for each head, [E, H, width]; else features, [E, width].
    """
    column = tl.arange(0, BLOCK)
    offset = edge_id * WIDTH
    if RECTIFIED:
        offset = (edge_id * HEADS + head[:, None]) * WIDTH
    inside = mask[:, :, None] & (column < WIDTH)[None, None, :]
    address = edge + offset[:, :, None] + column[None, None, :]
    return tl.load(address, mask=inside, other=0).to(tl.float32)


@triton.jit
def load_edge_value(x, edge_id, head, stride, head_stride, mask):
    """Return x[edge_id, head] of an edge-aligned tensor, float32 [units, lanes]."""
    offset = edge_id * stride + (head * head_stride)[:, None]
    return tl.load(x + offset, mask=mask, other=0).to(tl.float32)


@triton.jit
def store_edge_rows(x, edge_id, value, mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """x[edge_id, :] = value, [units, lanes, width]."""
    column = tl.arange(0, BLOCK)
    inside = mask[:, :, None] & (column < WIDTH)[None, None, :]
    tl.store(x + (edge_id * WIDTH)[:, :, None] + column[None, None, :], value, mask=inside)


# Logits ------------------------------------------------------------------------------------------


@triton.jit
def logits(x, y, a, u, e, slope, RECTIFIED: tl.constexpr):
    """Return s_ij, [units, lanes]: a . leaky_relu(x + y + e) if RECTIFIED, else x . y + u . e.

    x is the scaled tile of the unit's own row and y that of the other ends, q and k or k and q;
    u and e are those of the edge features, or None.
    """
    if RECTIFIED:
        h = x + y
        if e is not None:
            h += e
        return tl.sum(a * tl.where(h > 0, h, h * slope), 2)
    else:
        s = tl.sum(x * y, 2)
        if e is not None:
            s += tl.sum(u * e, 2)
        return s


@triton.jit
def logit_derivative(x, y, a, e, slope, RECTIFIED: tl.constexpr):
    """Return ds_ij / dx without the scale, [units, lanes, width]: a leaky_relu'(x + y + e) or y."""
    if RECTIFIED:
        h = x + y
        if e is not None:
            h += e
        return a * tl.where(h > 0, 1.0, slope)
    else:
        return y


@triton.jit
def rectified(x, y, e, slope):
    """Return leaky_relu(x + y + e), the derivative of s_ij by a, [units, lanes, width]."""
    h = x + y
    if e is not None:
        h += e
    return tl.where(h > 0, h, h * slope)


@triton.jit
def weighted_logits(
    s, w, bias, edge_id, head, bias_stride, bias_head, mask,
):  # fmt: skip
    """Return w_ij s_ij + b_ij, [units, lanes]; w is a tile or None, bias a pointer or None."""
    if w is not None:
        s *= w
    if bias is not None:
        s += load_edge_value(bias, edge_id, head, bias_stride, bias_head, mask)
    return s


# Softmax and dropout -----------------------------------------------------------------------------


@triton.jit
def finite_max(m):
    """Return m with 0 for minus infinity, so that exp(s - m) is 0 and not NaN without edges."""
    return tl.where(m == float("-inf"), 0.0, m)


@triton.jit
def online_softmax(m, total, s):
    """Update the running maximum m and the sum of exponentials by the logits s; [units, lanes].

    Returns m, total, the factor exp(m_old - m) of earlier sums, and p = exp(s - m).

    Source: Milakov and Gimelshein, 2018, "Online normalizer calculation for softmax".
    """
    m_new = tl.maximum(m, s)
    base = finite_max(m_new)
    fade, p = tl.exp(m - base), tl.exp(s - base)
    return m_new, total * fade + p, fade, p


@triton.jit
def weight_gradient(dout_i, v_j, dz_i, e_ij, dweights, edge_id, head, mask, HEADS: tl.constexpr):
    """Return dp_ij = dout_i . v_j + dz_i . e_ij + dweights_ij, [units, lanes].

    dz_i is a tile or None, dweights a pointer or None.
    """
    dp = tl.sum(dout_i * v_j, 2)
    if dz_i is not None:
        dp += tl.sum(dz_i * e_ij, 2)
    if dweights is not None:
        dp += load_edge_value(dweights, edge_id, head, HEADS, 1, mask)
    return dp


@triton.jit
def dropout_mask(seed, slot, head, threshold, HEADS):
    """Return `graphformer.ops.common.dropout_mask` of these slots and heads, [units, lanes]."""
    z = tl.load(seed).to(tl.uint64)
    z += (slot * HEADS + head[:, None] + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return (z >> 40).to(tl.int32) >= threshold
