"""Vectors in numba: what a kernel needs to say which numbers travel together.

LLVM maps them to whatever the processor has (AVX-512, AVX2, NEON), so one kernel serves all.
Pointers are plain (`p[i]`, no bounds, no negative indices); a vector's type holds its lanes.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

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


def vector_pointer(builder: Any, base: Any, place: Any, kind: Any) -> Any:
    """`base[place]` as a pointer to vectors."""
    return builder.bitcast(builder.gep(base, [place]), kind.as_pointer())


def align(vector: Vector) -> int:
    """Bytes of one number: vectors may begin at any."""
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
        return splatted(builder, x, args[1].type)

    return like(x, like), build


def splatted(builder: Any, x: Any, kind: Any) -> Any:
    """`x` in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
    order = ir.Constant(ir.VectorType(I32, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), order)


@intrinsic
def load(context, base, place, like):
    """The numbers from `base[place]` on."""

    def build(context, builder, signature, args):
        start = vector_pointer(builder, args[0], args[1], args[2].type)
        return builder.load(start, align=align(like))

    return like(base, place, like), build


@intrinsic
def store(context, base, place, vector):
    """Write a vector from `base[place]` on."""

    def build(context, builder, signature, args):
        start = vector_pointer(builder, args[0], args[1], args[2].type)
        builder.store(args[2], start, align=align(vector))
        return context.get_dummy_value()

    return types.none(base, place, vector), build


def _first(builder: Any, count: Any, lanes: int) -> Any:
    kind = ir.VectorType(I64, lanes)
    numbers = ir.Constant(kind, [I64(i) for i in range(lanes)])
    return builder.icmp_signed("<", numbers, splatted(builder, count, kind))


def suffix(vector: Any) -> str:
    """How LLVM spells a vector's type in the names of its functions."""
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


@intrinsic
def load_first(context, base, place, count, like):
    """The first `count` numbers from `base[place]` on, zeros after them; reads no further."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = vector_pointer(builder, args[0], args[1], kind)
        mask = _first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [start.type, I32, mask.type, kind]),
            f"llvm.masked.load.{suffix(kind)}.p0",
        )
        return builder.call(function, [start, I32(align(like)), mask, ir.Constant(kind, None)])

    return like(base, place, types.int64, like), build


@intrinsic
def store_first(context, base, place, count, vector):
    """Write the first `count` numbers of a vector from `base[place]` on."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = vector_pointer(builder, args[0], args[1], kind)
        mask = _first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, start.type, I32, mask.type]),
            f"llvm.masked.store.{suffix(kind)}.p0",
        )
        builder.call(function, [args[3], start, I32(align(vector)), mask])
        return context.get_dummy_value()

    return types.none(base, place, types.int64, vector), build
