"""The second stage for rows that are split: their parts are put together, always in one order."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl


@triton.jit
def join_softmax(
    hubs, starts, largest, total, acc, out, lse,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Each program joins one hub and head: out = sum / total, lse; from [parts, H(, width)]."""
    hub, head = tl.program_id(0), tl.program_id(1)
    row = tl.load(hubs + hub).to(tl.int64)
    first, end = tl.load(starts + hub).to(tl.int64), tl.load(starts + hub + 1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    lane = tl.full([PARTS], float("-inf"), tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        m = tl.load(largest + part * HEADS + head, mask=part < end, other=float("-inf"))
        lane = tl.maximum(lane, m)
    top = tl.max(lane, 0)
    base = tl.where(top == float("-inf"), 0.0, top)
    summed = tl.zeros([PARTS], tl.float32)
    result = tl.zeros([PARTS, BLOCK], tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        at, there = part * HEADS + head, part < end
        share = tl.exp(tl.load(largest + at, mask=there, other=float("-inf")) - base)
        summed += share * tl.load(total + at, mask=there, other=0)
        mask = there[:, None] & (column < WIDTH)[None, :]
        values = tl.load(acc + at[:, None] * WIDTH + column[None, :], mask=mask, other=0)
        result += share[:, None] * values
    sum_all = tl.sum(summed, 0)
    divisor = tl.where(sum_all == 0, 1.0, sum_all)
    at = row * HEADS + head
    tl.store(lse + at, tl.where(sum_all == 0, float("inf"), base + tl.log(divisor)))
    tl.store(out + at * WIDTH + column, tl.sum(result, 0) / divisor, mask=column < WIDTH)


@triton.jit
def join_sum(
    starts, parts, out, WIDTH, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """out[hub, :] = the sum of the hub's parts [parts, WIDTH]; a program takes BLOCK columns."""
    hub = tl.program_id(0).to(tl.int64)
    first, end = tl.load(starts + hub).to(tl.int64), tl.load(starts + hub + 1).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([PARTS, BLOCK], tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        mask = (part < end)[:, None] & (column < WIDTH)[None, :]
        acc += tl.load(parts + part[:, None] * WIDTH + column[None, :], mask=mask, other=0)
    tl.store(out + hub * WIDTH + column, tl.sum(acc, 0), mask=column < WIDTH)
