"""Vectors in numba: what a kernel needs to say which numbers travel together.

LLVM maps them to whatever the processor has (AVX-512, AVX2, NEON), so one kernel serves all.
Pointers are plain (`p[i]`, no bounds, no negative indices); a vector's type holds its lanes.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import math
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

I32, I64 = ir.IntType(32), ir.IntType(64)
LOOSE = ("contract", "reassoc", "nsz")  # sums in any order; infinities and NaN keep their meaning


class Vector(types.Type):
    """`lanes` numbers of one floating-point type."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        scalar = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(scalar, kind.lanes))


def _is_pair(a: Any, b: Any) -> bool:
    return isinstance(a, Vector) and a == b


def _arithmetic(function: Any, instruction: str) -> None:
    @intrinsic
    def compute(context, a, b):
        def build(context, builder, signature, args):
            return getattr(builder, instruction)(*args, flags=LOOSE)

        return a(a, b), build

    @overload(function)
    def vector(a, b):
        return (lambda a, b: compute(a, b)) if _is_pair(a, b) else None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


# Pointers ---------------------------------------------------------------------------------------


@intrinsic
def pointer(context, address, like):
    """The pointer to numbers like those of pointer `like` at an integer address."""

    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], args[1].type)

    return like(address, like), build


@intrinsic
def shift(context, base, count):
    """The pointer `count` numbers on."""

    def build(context, builder, signature, args):
        return builder.gep(*args[:1], [args[1]])

    return base(base, count), build


@intrinsic
def cast(context, base, like):
    """The same address, read as pointer `like` reads."""

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], args[1].type)

    return like(base, like), build


@intrinsic
def size_of(context, base):
    """Bytes of what a pointer points to."""

    def build(context, builder, signature, args):
        return I64(base.dtype.bitwidth // 8)

    return types.int64(base), build


@intrinsic
def prefetch(context, base, place):
    """Ask for the cache line that holds `base[place]`."""

    def build(context, builder, signature, args):
        start = builder.bitcast(builder.gep(args[0], [args[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [start.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [start, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.none(base, place), build


@intrinsic
def read_index(context, address, wide, place):
    """Element `place` of the int64 (where `wide`) or int32 array at an address."""

    def build(context, builder, signature, args):
        address, wide, place = args
        result = cgutils.alloca_once(builder, I64)
        with builder.if_else(builder.icmp_signed("!=", wide, I64(0))) as (long, short):
            for branch, kind in (long, I64), (short, I32):
                with branch:
                    base = builder.inttoptr(address, kind.as_pointer())
                    value = builder.load(builder.gep(base, [place]))
                    builder.store(value if kind is I64 else builder.sext(value, I64), result)
        return builder.load(result)

    integers = [types.int64] * 3
    return types.int64(*integers), build


@intrinsic
def as_float(context, bits):
    """The float64 that an int64's bits spell."""

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), build


# Moving numbers ---------------------------------------------------------------------------------


def _vector_pointer(builder: Any, base: Any, place: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(base, [place]), kind.as_pointer())


def _align(vector: Vector) -> int:
    return vector.dtype.bitwidth // 8


@intrinsic(prefer_literal=True)
def zeros(context, like, lanes):
    """A vector of zeros of what pointer `like` points to; `lanes` is a constant."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(like.dtype, lanes.literal_value)

    def build(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(like, lanes), build


@intrinsic
def lanes_of(context, vector):
    """How many numbers a vector holds, a constant."""

    def build(context, builder, signature, args):
        return I64(vector.lanes)

    return types.int64(vector), build


@intrinsic
def splat(context, x, like):
    """`x` in every lane of a vector like `like`."""

    def build(context, builder, signature, args):
        x = context.cast(builder, args[0], signature.args[0], like.dtype)
        return _splat(builder, x, args[1].type)

    return like(x, like), build


def _splat(builder: Any, x: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
    order = ir.Constant(ir.VectorType(I32, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), order)


@intrinsic
def load(context, base, place, like):
    """The numbers from `base[place]` on."""

    def build(context, builder, signature, args):
        start = _vector_pointer(builder, args[0], args[1], args[2].type)
        return builder.load(start, align=_align(like))

    return like(base, place, like), build


@intrinsic
def store(context, base, place, vector):
    """Write a vector from `base[place]` on."""

    def build(context, builder, signature, args):
        start = _vector_pointer(builder, args[0], args[1], args[2].type)
        builder.store(args[2], start, align=_align(vector))
        return context.get_dummy_value()

    return types.none(base, place, vector), build


def _first(builder: Any, count: Any, lanes: int) -> Any:
    kind = ir.VectorType(I64, lanes)
    numbers = ir.Constant(kind, [I64(i) for i in range(lanes)])
    return builder.icmp_signed("<", numbers, _splat(builder, count, kind))


def _suffix(vector: Any) -> str:
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


@intrinsic
def load_first(context, base, place, count, like):
    """The first `count` numbers from `base[place]` on, zeros after them; reads no further."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = _vector_pointer(builder, args[0], args[1], kind)
        mask = _first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [start.type, I32, mask.type, kind]),
            f"llvm.masked.load.{_suffix(kind)}.p0",
        )
        return builder.call(function, [start, I32(_align(like)), mask, ir.Constant(kind, None)])

    return like(base, place, types.int64, like), build


@intrinsic
def store_first(context, base, place, count, vector):
    """Write the first `count` numbers of a vector from `base[place]` on."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = _vector_pointer(builder, args[0], args[1], kind)
        mask = _first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, start.type, I32, mask.type]),
            f"llvm.masked.store.{_suffix(kind)}.p0",
        )
        builder.call(function, [args[3], start, I32(_align(vector)), mask])
        return context.get_dummy_value()

    return types.none(base, place, types.int64, vector), build


# Sums, maxima, choice ---------------------------------------------------------------------------


def _call(builder: Any, name: str, result: Any, args: list[Any], flags: Any = ()) -> Any:
    kind = ir.FunctionType(result, [x.type for x in args])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, args, fastmath=flags)


@intrinsic
def total(context, vector):
    """The sum of the lanes."""

    def build(context, builder, signature, args):
        (x,) = args
        name = f"llvm.vector.reduce.fadd.{_suffix(x.type)}"
        zero = ir.Constant(x.type.element, 0.0)
        return _call(builder, name, x.type.element, [zero, x], LOOSE)

    return vector.dtype(vector), build


@intrinsic
def peak(context, vector):
    """The largest lane; of NaN, nothing is promised."""

    def build(context, builder, signature, args):
        (x,) = args
        while x.type.count > 1:
            low, high = _split(builder, x)
            x = builder.select(builder.fcmp_ordered(">", high, low), high, low)
        return builder.extract_element(x, I32(0))

    return vector.dtype(vector), build


@intrinsic
def larger(context, x, y):
    """The larger of each pair of lanes; of NaN, nothing is promised."""

    def build(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, y), build


@intrinsic
def store_totals(context, base, place, a, b, c, d):
    """Write the sums of the lanes of four vectors to `base[place : place + 4]`.

    One tree for the four takes a third of the shuffles that four trees take.
    """

    def build(context, builder, signature, args):
        vectors = list(args[2:])
        while len(vectors) > 1:
            vectors = [
                _fold(builder, x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        (x,) = vectors
        while x.type.count > 4:
            x = _halves(builder, x)
        start = _vector_pointer(builder, args[0], args[1], x.type)
        builder.store(x, start, align=_align(a))
        return context.get_dummy_value()

    return types.none(base, place, a, b, c, d), build


def _shuffle(builder: Any, x: Any, y: Any, order: list[int]) -> Any:
    places = ir.Constant(ir.VectorType(I32, len(order)), [I32(i) for i in order])
    return builder.shuffle_vector(x, y, places)


def _fold(builder: Any, x: Any, y: Any) -> Any:
    """Sums of neighbours within groups of four lanes: two folds leave one sum a group and input."""
    n = x.type.count
    even, odd = [], []
    for group in range(0, n, 4):
        even += [group, group + 2, n + group, n + group + 2]
        odd += [group + 1, group + 3, n + group + 1, n + group + 3]
    return builder.fadd(_shuffle(builder, x, y, even), _shuffle(builder, x, y, odd), flags=LOOSE)


def _halves(builder: Any, x: Any) -> Any:
    return builder.fadd(*_split(builder, x), flags=LOOSE)


def _split(builder: Any, x: Any) -> tuple[Any, Any]:
    half = x.type.count // 2
    undefined = ir.Constant(x.type, ir.Undefined)
    low = _shuffle(builder, x, undefined, list(range(half)))
    return low, _shuffle(builder, x, undefined, list(range(half, 2 * half)))


@intrinsic
def leaky(context, x, slope):
    """leaky_relu: x where positive, slope * x elsewhere."""

    def build(context, builder, signature, args):
        x, slope = args
        positive = builder.fcmp_ordered(">", x, ir.Constant(x.type, None))
        return builder.select(positive, x, builder.fmul(x, slope))

    return x(x, slope), build


@intrinsic
def leaky_slope(context, x, slope):
    """The derivative of leaky_relu: 1 where x is positive, slope elsewhere."""

    def build(context, builder, signature, args):
        x, slope = args
        one = ir.Constant(x.type.element, 1.0)
        positive = builder.fcmp_ordered(">", x, ir.Constant(x.type, None))
        return builder.select(positive, _splat(builder, one, x.type), slope)

    return x(x, slope), build


# The exponential --------------------------------------------------------------------------------

# bits of the type's exponent field, its bias, the place of the field, the number whose last digit
# is a unit, the least argument, ln 2 in two parts, and the terms of the Taylor series on
# [-ln 2 / 2, ln 2 / 2] that float precision needs
_EXPONENTIAL = {
    32: (127, 23, 1.5 * 2**23, -87.3, 0.693359375, -2.12194440e-4, 7),
    64: (1023, 52, 1.5 * 2**52, -708.0, 6.93145751953125e-1, 1.42860682030941723212e-6, 13),
}


@intrinsic
def exponential(context, x):
    """e^x for x <= 0, to two units in the last place; 0 where it would be subnormal, NaN from NaN.

    2^n * e^r with n = round(x / ln 2): adding 1.5 * 2^23 leaves n in the low bits of the sum.
    """

    def build(context, builder, signature, args):
        return _exponential(builder, args[0], x.dtype.bitwidth)

    return x(x), build


def _exponential(builder: Any, x: Any, bits: int) -> Any:
    bias, place, unit, least, log2_high, log2_low, terms = _EXPONENTIAL[bits]
    kind, whole = x.type, ir.VectorType(ir.IntType(bits), x.type.count)

    def number(value: float) -> Any:
        return ir.Constant(kind, [kind.element(value)] * kind.count)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [whole.element(value)] * whole.count)

    def fma(a: Any, b: Any, c: Any) -> Any:
        return _call(builder, f"llvm.fma.{_suffix(kind)}", kind, [a, b, c])

    shifted = fma(x, number(1 / math.log(2)), number(unit))
    n = builder.fsub(shifted, number(unit))
    r = fma(n, number(-log2_low), fma(n, number(-log2_high), x))
    result = number(1 / math.factorial(terms))
    for term in reversed(range(terms)):
        result = fma(result, r, number(1 / math.factorial(term)))
    exponent = builder.add(builder.bitcast(shifted, whole), integer(bias))
    power = builder.bitcast(builder.shl(exponent, integer(place)), kind)
    small = builder.fcmp_ordered("<", x, number(least))
    return builder.select(small, number(0.0), builder.fmul(result, power))


# Dropout ----------------------------------------------------------------------------------------


@intrinsic
def kept(context, seed, place, threshold):
    """Whether dropout keeps the weight at `place`: `graphformer.ops.common.keep`, one at a time."""

    def build(context, builder, signature, args):
        seed, place, threshold = args
        step = builder.mul(builder.add(place, I64(1)), I64(0x9E3779B97F4A7C15))
        z = builder.add(seed, step)
        for bits, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):
            z = builder.mul(builder.xor(z, builder.lshr(z, I64(bits))), I64(factor))
        z = builder.xor(z, builder.lshr(z, I64(31)))
        return builder.icmp_unsigned(">=", builder.lshr(z, I64(40)), threshold)

    integers = [types.int64] * 3
    return types.boolean(*integers), build


# Threads ----------------------------------------------------------------------------------------


@intrinsic
def take_next(context, counter):
    """Add one to the int64 at an address that threads share; return what it was."""

    def build(context, builder, signature, args):
        address = builder.inttoptr(args[0], I64.as_pointer())
        return builder.atomic_rmw("add", address, I64(1), "monotonic")

    return types.int64(types.int64), build


@intrinsic
def call(context, address, item, table, scratch):
    """Call the compiled kernel at an address: kernel(item, table, scratch)."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    integers = [types.int64] * 4
    return types.none(*integers), build


@intrinsic
def sweep(context, address, table, x, stride, n, edges, base):
    """Call the compiled sweep at an address: see `graphformer.ops.cpu.sweeps`."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, x, i64, i64, edges, i64), build


@intrinsic
def list_block(context, address, table, begin, n, nodes):
    """Call the compiled `graphformer.ops.cpu.sweeps.list_edges` at an address."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, i64, i64, nodes), build
