"""Kernels that combine the parts of rows that are split, always in the same order."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
import triton
import triton.language as tl


@triton.jit
def combine_softmax(
    hubs, starts, largest, total, acc, out, lse,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Write out and log-sum-exp of one hub and head per program.

    A part t has the largest logit m_t, the sum of exponentials l_t, [parts, H], and the
    unnormalised output acc_t, [parts, H, width]. With M = max_t m_t:
    out = sum_t exp(m_t - M) acc_t / sum_t exp(m_t - M) l_t, and lse = M + log of the divisor.
    """
    hub, head = tl.program_id(0), tl.program_id(1)
    row = tl.load(hubs + hub).to(tl.int64)
    first, end = tl.load(starts + hub).to(tl.int64), tl.load(starts + hub + 1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    # M, over all parts of the hub.
    m = tl.full([PARTS], float("-inf"), tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        m_t = tl.load(largest + part * HEADS + head, mask=part < end, other=float("-inf"))
        m = tl.maximum(m, m_t)
    top = tl.max(m, 0)
    base = tl.where(top == float("-inf"), 0.0, top)
    # Sums of l_t and acc_t, each times exp(m_t - M).
    sum_p = tl.zeros([PARTS], tl.float32)
    result = tl.zeros([PARTS, BLOCK], tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        at, mask = part * HEADS + head, part < end
        share = tl.exp(tl.load(largest + at, mask=mask, other=float("-inf")) - base)
        sum_p += share * tl.load(total + at, mask=mask, other=0)
        inside = mask[:, None] & (column < WIDTH)[None, :]
        acc_t = tl.load(acc + at[:, None] * WIDTH + column[None, :], mask=inside, other=0)
        result += share[:, None] * acc_t
    sum_all = tl.sum(sum_p, 0)
    divisor = tl.where(sum_all == 0, 1.0, sum_all)
    at = row * HEADS + head
    tl.store(lse + at, tl.where(sum_all == 0, float("inf"), base + tl.log(divisor)))
    tl.store(out + at * WIDTH + column, tl.sum(result, 0) / divisor, mask=column < WIDTH)


@triton.jit
def combine_sums(
    starts, parts, out, WIDTH, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """out[hub, :] = sum of the hub's parts [parts, WIDTH]; BLOCK columns per program."""
    hub = tl.program_id(0).to(tl.int64)
    first, end = tl.load(starts + hub).to(tl.int64), tl.load(starts + hub + 1).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([PARTS, BLOCK], tl.float32)
    for start in range(first, end, PARTS):
        part = start + tl.arange(0, PARTS)
        inside = (part < end)[:, None] & (column < WIDTH)[None, :]
        acc += tl.load(parts + part[:, None] * WIDTH + column[None, :], mask=inside, other=0)
    tl.store(out + hub * WIDTH + column, tl.sum(acc, 0), mask=column < WIDTH)
