"""Sums of the parts of a split row in the backward passes."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.argument_table import (
    at_row,
)
from graphformer.ops.cpu.kernels.row_ops import (
    scale_row,
)
from graphformer.ops.cpu.kernels.simd import pointer, shift, zeros


def make_sum_join(lanes: int) -> Callable[..., Any]:
    """Sum the parts of a split row, in order, into up to two results.

    A part's record is a row of the first result, then one of the second, as in `_source_gradients`.
    """

    def sum_join(item, table, scratch):
        zero = zeros(scratch, lanes)
        width, other_width = table[at.WIDTH], table[at.VALUE_WIDTH]
        hub = shift(pointer(table[at.HUBS], table), item * 3)  # row, first part, end part
        row, size = hub[0], width + other_width
        total = at_row(table, at.PARTIAL, hub[1], size, scratch)
        for part in range(1, hub[2] - hub[1]):
            record = shift(total, part * size)
            for i in range(size):
                total[i] += record[i]
        scale_row(at_row(table, at.OUT, row, width, scratch), total, width, 1.0, zero)
        other = at_row(table, at.Z, row, other_width, scratch)
        scale_row(other, shift(total, width), other_width, 1.0, zero)

    return sum_join
