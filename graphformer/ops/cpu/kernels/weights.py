"""Pointers to weights in float32 or bfloat16, whose vectors are float32."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphformer.ops.cpu.kernels.simd import I32, vector_pointer


@intrinsic
def floats(context, address):
    """An integer address as a pointer to float32."""

    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), build


@intrinsic
def halves(context, address):
    """An integer address as a pointer to the bits of bfloat16 numbers."""

    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(16).as_pointer())

    return types.CPointer(types.uint16)(types.int64), build


@intrinsic
def load_weights(context, base, index, like):
    """The vector at `base[index]` as float32, of weights in float32 or bfloat16.

    A bfloat16 is the upper half of a float32.
    """

    def build(context, builder, signature, args):
        base_, index_, like_ = args
        count = like_.type.count
        if base.dtype == types.float32:
            start = vector_pointer(builder, base_, index_, like_.type)
            return builder.load(start, align=4)
        start = vector_pointer(builder, base_, index_, ir.VectorType(ir.IntType(16), count))
        wide = ir.VectorType(I32, count)
        bits = builder.zext(builder.load(start, align=2), wide)
        bits = builder.shl(bits, ir.Constant(wide, [I32(16)] * count))
        return builder.bitcast(bits, like_.type)

    return like(base, index, like), build
