"""Vector functions: sums, maxima, leaky_relu, the exponential; and the dropout generator."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from graphformer.ops.cpu.kernels.simd import (
    FAST_MATH,
    I32,
    I64,
    align,
    splatted,
    suffix,
    vector_pointer,
)

# Sums and maxima --------------------------------------------------------------------------------


def _call(builder: Any, name: str, result: Any, args: list[Any], flags: Any = ()) -> Any:
    """Call one of LLVM's intrinsics by name."""
    kind = ir.FunctionType(result, [x.type for x in args])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, args, fastmath=flags)


@intrinsic
def sum_lanes(context, vector):
    """The sum of the lanes."""

    def build(context, builder, signature, args):
        (x,) = args
        name = f"llvm.vector.reduce.fadd.{suffix(x.type)}"
        zero = ir.Constant(x.type.element, 0.0)
        return _call(builder, name, x.type.element, [zero, x], FAST_MATH)

    return vector.dtype(vector), build


@intrinsic
def max_lane(context, vector):
    """The largest lane; unspecified if one is NaN."""

    def build(context, builder, signature, args):
        (x,) = args
        while x.type.count > 1:
            low, high = _split(builder, x)
            x = builder.select(builder.fcmp_ordered(">", high, low), high, low)
        return builder.extract_element(x, I32(0))

    return vector.dtype(vector), build


@intrinsic
def maximum(context, x, y):
    """The larger of each pair of lanes; unspecified if one is NaN."""

    def build(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, y), build


@intrinsic
def store_lane_sums(context, base, index, a, b, c, d):
    """Write the sums of the lanes of four vectors to `base[index : index + 4]`.

    One reduction tree for all four takes a third of the shuffles of four trees.
    """

    def build(context, builder, signature, args):
        vectors = list(args[2:])
        while len(vectors) > 1:
            vectors = [
                _fold(builder, x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        (x,) = vectors
        while x.type.count > 4:
            x = _add_halves(builder, x)
        start = vector_pointer(builder, args[0], args[1], x.type)
        builder.store(x, start, align=align(a))
        return context.get_dummy_value()

    return types.none(base, index, a, b, c, d), build


def _shuffle(builder: Any, x: Any, y: Any, order: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(I32, len(order)), [I32(i) for i in order])
    return builder.shuffle_vector(x, y, mask)


def _fold(builder: Any, x: Any, y: Any) -> Any:
    """Add neighbouring lanes within groups of four; two folds leave one sum per group and input."""
    n = x.type.count
    even, odd = [], []
    for group in range(0, n, 4):
        even += [group, group + 2, n + group, n + group + 2]
        odd += [group + 1, group + 3, n + group + 1, n + group + 3]
    return builder.fadd(
        _shuffle(builder, x, y, even), _shuffle(builder, x, y, odd), flags=FAST_MATH
    )


def _add_halves(builder: Any, x: Any) -> Any:
    return builder.fadd(*_split(builder, x), flags=FAST_MATH)


def _split(builder: Any, x: Any) -> tuple[Any, Any]:
    half = x.type.count // 2
    undefined = ir.Constant(x.type, ir.Undefined)
    low = _shuffle(builder, x, undefined, list(range(half)))
    return low, _shuffle(builder, x, undefined, list(range(half, 2 * half)))


@intrinsic
def leaky_relu(context, x, slope):
    """leaky_relu: x where positive, slope * x elsewhere."""

    def build(context, builder, signature, args):
        x, slope = args
        positive = builder.fcmp_ordered(">", x, ir.Constant(x.type, None))
        return builder.select(positive, x, builder.fmul(x, slope))

    return x(x, slope), build


@intrinsic
def leaky_relu_slope(context, x, slope):
    """The derivative of leaky_relu: 1 where x is positive, slope elsewhere."""

    def build(context, builder, signature, args):
        x, slope = args
        one = ir.Constant(x.type.element, 1.0)
        positive = builder.fcmp_ordered(">", x, ir.Constant(x.type, None))
        return builder.select(positive, splatted(builder, one, x.type), slope)

    return x(x, slope), build


# The exponential --------------------------------------------------------------------------------

# By bits of the type: exponent bias; bits of the mantissa; 1.5 * 2^mantissa, adding which rounds to
# integers; smallest argument; ln 2 as a sum of two parts (Cody and Waite); degree of the Taylor
# polynomial that reaches full precision on [-ln 2 / 2, ln 2 / 2].
_EXPONENTIAL = {
    32: (127, 23, 1.5 * 2**23, -87.3, 0.693359375, -2.12194440e-4, 7),
    64: (1023, 52, 1.5 * 2**52, -708.0, 6.93145751953125e-1, 1.42860682030941723212e-6, 13),
}


@intrinsic
def exponential(context, x):
    """e^x for x <= 0, to two units in the last place; 0 if the result is subnormal, NaN for NaN.

    e^x = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2. Adding 1.5 * 2^23 (for float32)
    rounds to an integer and leaves n in the low bits of the sum, from where it is shifted into the
    exponent.
    """

    def build(context, builder, signature, args):
        return _exponential(builder, args[0], x.dtype.bitwidth)

    return x(x), build


def _exponential(builder: Any, x: Any, bits: int) -> Any:
    bias, mantissa, rounder, smallest, ln2_high, ln2_low, degree = _EXPONENTIAL[bits]
    kind, whole = x.type, ir.VectorType(ir.IntType(bits), x.type.count)

    def number(value: float) -> Any:
        return ir.Constant(kind, [kind.element(value)] * kind.count)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [whole.element(value)] * whole.count)

    def fma(a: Any, b: Any, c: Any) -> Any:
        return _call(builder, f"llvm.fma.{suffix(kind)}", kind, [a, b, c])

    shifted = fma(x, number(1 / math.log(2)), number(rounder))
    n = builder.fsub(shifted, number(rounder))
    r = fma(n, number(-ln2_low), fma(n, number(-ln2_high), x))
    result = number(1 / math.factorial(degree))
    for term in reversed(range(degree)):  # Horner's scheme
        result = fma(result, r, number(1 / math.factorial(term)))
    exponent = builder.add(builder.bitcast(shifted, whole), integer(bias))
    power = builder.bitcast(builder.shl(exponent, integer(mantissa)), kind)
    small = builder.fcmp_ordered("<", x, number(smallest))
    return builder.select(small, number(0.0), builder.fmul(result, power))


# Dropout ----------------------------------------------------------------------------------------


@intrinsic
def is_kept(context, seed, position, threshold):
    """Whether dropout keeps the element at `position` of `graphformer.ops.common.dropout_mask`.

    The splitmix64 generator at counter position + 1; see there.
    """

    def build(context, builder, signature, args):
        seed, position, threshold = args
        step = builder.mul(builder.add(position, I64(1)), I64(0x9E3779B97F4A7C15))
        z = builder.add(seed, step)
        for bits, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):
            z = builder.mul(builder.xor(z, builder.lshr(z, I64(bits))), I64(factor))
        z = builder.xor(z, builder.lshr(z, I64(31)))
        return builder.icmp_unsigned(">=", builder.lshr(z, I64(40)), threshold)

    integers = [types.int64] * 3
    return types.boolean(*integers), build
