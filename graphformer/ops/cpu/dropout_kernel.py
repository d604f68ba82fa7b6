"""Dropout of a plain tensor, by the generator that also drops attention weights."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphformer.ops.cpu import argument_table as at
from graphformer.ops.cpu.simd import as_float, pointer, shift
from graphformer.ops.cpu.vector_math import is_kept

SPAN = 1 << 14
"""Elements per work item."""


def make_dropout() -> Callable[..., Any]:
    """out = v * mask / (1 - dropout) for the `width` elements of a tensor v, span by span."""

    def dropout(item, table, scratch):
        begin = item * SPAN
        x, out = pointer(table[at.V], scratch), pointer(table[at.OUT], scratch)
        x, out = shift(x, begin), shift(out, begin)
        seed, threshold, scale = table[at.SEED], table[at.DROPOUT], as_float(table[at.KEEP_SCALE])
        for i in range(min(SPAN, table[at.WIDTH] - begin)):
            out[i] = x[i] * scale if is_kept(seed, begin + i, threshold) else 0.0

    return dropout
