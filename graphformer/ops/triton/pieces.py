"""Device functions that the passes share: which rows a program has, gathers, scores, dropout.

A unit is one row and one head. Tiles are [units, lanes, width]: each lane of a unit takes every
`LANES`-th edge of its row and keeps sums of its own, which are put together at the row's end. So
nothing crosses threads inside the loop but the sums over a row's width.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
# No `from __future__ import annotations`: Triton's interpreter reads the annotations themselves.
import triton
import triton.language as tl


@triton.jit
def my_units(
    rows, begins, indptr, count,
    HEADS: tl.constexpr, CHUNK: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """The units of this program: item, head, row, first slot and end; past the last, no slots."""
    unit = tl.program_id(0).to(tl.int64) * UNITS + tl.arange(0, UNITS)
    item, head = unit // HEADS, unit % HEADS
    live = item < count
    row = tl.load(rows + item, mask=live, other=0).to(tl.int64)
    begin = tl.load(indptr + row, mask=live, other=0).to(tl.int64)
    end = tl.load(indptr + row + 1, mask=live, other=0).to(tl.int64)
    if begins is not None:  # parts of rows that are split
        begin = tl.load(begins + item, mask=live, other=0).to(tl.int64)
        end = tl.where(live, tl.minimum(begin + CHUNK, end), begin)
    return item, head, row, begin, end, live


@triton.jit
def own_rows(x, row, stride, head, live, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Each unit's own row x[row, head, :], [units, 1, width]."""
    column = tl.arange(0, BLOCK)
    at = (row * stride + head * WIDTH)[:, None, None] + column[None, None, :]
    mask = live[:, None, None] & (column < WIDTH)[None, None, :]
    return tl.load(x + at, mask=mask, other=0).to(tl.float32)


@triton.jit
def gathered(x, node, stride, head, there, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The rows x[node, head, :] at the other ends of edges, [units, lanes, width]."""
    column = tl.arange(0, BLOCK)
    at = (node * stride + (head * WIDTH)[:, None])[:, :, None] + column[None, None, :]
    mask = there[:, :, None] & (column < WIDTH)[None, None, :]
    return tl.load(x + at, mask=mask, other=0).to(tl.float32)


@triton.jit
def store_rows(x, row, stride, head, value, live, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """x[row, head, :] = value, [units, width]."""
    column = tl.arange(0, BLOCK)
    at = (row * stride + head * WIDTH)[:, None] + column[None, :]
    tl.store(x + at, value, mask=live[:, None] & (column < WIDTH)[None, :])


@triton.jit
def edge_rows(
    edge, number, head, there,
    RECTIFIED: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What edges carry, [units, lanes, width]: a key a head if RECTIFIED, else one feature row."""
    column = tl.arange(0, BLOCK)
    at = number * WIDTH
    if RECTIFIED:
        at = (number * HEADS + head[:, None]) * WIDTH
    mask = there[:, :, None] & (column < WIDTH)[None, None, :]
    return tl.load(edge + at[:, :, None] + column[None, None, :], mask=mask, other=0).to(tl.float32)


@triton.jit
def edge_value(x, number, head, stride, head_stride, there):
    """x[number, head] of an edge-aligned tensor, [units, lanes]."""
    at = number * stride + (head * head_stride)[:, None]
    return tl.load(x + at, mask=there, other=0).to(tl.float32)


@triton.jit
def edge_numbers(edge_ids, slot, there):
    """The caller's numbers of the edges in these slots."""
    if edge_ids is not None:
        slot = tl.load(edge_ids + slot, mask=there, other=0)
    return slot


@triton.jit
def scores(mine, theirs, vector, asked, carried, slope, RECTIFIED: tl.constexpr):
    """mine . theirs (+ asked . carried), or vector . leaky_relu(mine + theirs (+ carried))."""
    if RECTIFIED:
        x = mine + theirs
        if carried is not None:
            x += carried
        return tl.sum(vector * tl.where(x > 0, x, x * slope), 2)
    else:
        s = tl.sum(mine * theirs, 2)
        if carried is not None:
            s += tl.sum(asked * carried, 2)
        return s


@triton.jit
def directions(mine, theirs, vector, carried, slope, RECTIFIED: tl.constexpr):
    """The derivative of the scores by `mine`, but for the scale: [units, lanes, width]."""
    if RECTIFIED:
        x = mine + theirs
        if carried is not None:
            x += carried
        return vector * tl.where(x > 0, 1.0, slope)
    else:
        return theirs


@triton.jit
def kept(seed, slot, head, threshold, HEADS):
    """The dropout mask of graphformer.ops.common.dropout_mask, [units, lanes]."""
    z = tl.load(seed).to(tl.uint64)
    z += (slot * HEADS + head[:, None] + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return (z >> 40).to(tl.int32) >= threshold
