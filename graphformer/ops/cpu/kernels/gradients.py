"""Gradients that both backward passes compute."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from graphformer.ops.cpu.kernels import argument_table as at
from graphformer.ops.cpu.kernels.indirect_calls import call_step
from graphformer.ops.cpu.kernels.logits import drop
from graphformer.ops.cpu.kernels.simd import as_float, inlined
from graphformer.ops.cpu.kernels.tile_ops import add_sums, leaky_relu_backward, pad


@inlined
def finish_dp(table, dp, tile, heads):
    """Add the gradient of returned weights, then apply dropout: weights are returned after it."""
    if table[at.DWEIGHTS] != 0:
        base = table[at.DWEIGHTS]
        call_step(table[at.ADD_EDGES], table, dp, tile.stride, tile.size, tile.ids, base)
    drop(table, dp, tile)
    pad(dp, tile, heads, 0.0)


@inlined
def score_gradient(table, dscore, ds, raw, dedge, tile, heads, zero):
    """dscore += sum_e ds leaky_relu'(raw), [H], for additive scores.

    The summands are also the gradients of the edge scores; they are written to address dedge,
    [E, H], unless that is 0.
    """
    leaky_relu_backward(ds, raw, as_float(table[at.SLOPE]), tile, heads, zero)
    if dedge != 0:
        call_step(table[at.WRITE_EDGES], table, ds, tile.stride, tile.size, tile.ids, dedge)
    add_sums(dscore, ds, tile, heads)
