"""Vectors and raw pointers in numba, so that kernels state what is computed in SIMD lanes.

LLVM maps vectors to the processor's instructions (AVX-512, AVX2, NEON). Pointers are indexed as
`p[i]`, without bounds checks or negative indices. The number of lanes is part of a vector's type.
"""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

I32, I64 = ir.IntType(32), ir.IntType(64)
FAST_MATH = ("contract", "reassoc", "nsz")
"""Sums in any order; infinities and NaN are still exact."""

inlined = njit(
    forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""Decorator of functions that are inlined into kernels."""


class Vector(types.Type):
    """The numba type of `lanes` floats of one width."""

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
            return getattr(builder, instruction)(*args, flags=FAST_MATH)

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
    """An integer address as a pointer of the type of `like`."""

    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], args[1].type)

    return like(address, like), build


@intrinsic
def shift(context, base, count):
    """base + count: the pointer to base[count]."""

    def build(context, builder, signature, args):
        return builder.gep(*args[:1], [args[1]])

    return base(base, count), build


@intrinsic
def cast(context, base, like):
    """The address of `base` as a pointer of the type of `like`."""

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], args[1].type)

    return like(base, like), build


@intrinsic
def size_of(context, base):
    """Bytes of one element."""

    def build(context, builder, signature, args):
        return I64(base.dtype.bitwidth // 8)

    return types.int64(base), build


@intrinsic
def prefetch(context, base, index):
    """Prefetch the cache line of `base[index]`."""

    def build(context, builder, signature, args):
        start = builder.bitcast(builder.gep(args[0], [args[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [start.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [start, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.none(base, index), build


@intrinsic
def read_index(context, address, wide, index):
    """array[index] as int64, for the int64 (if `wide`) or int32 array at an address."""

    def build(context, builder, signature, args):
        address, wide, index = args
        result = cgutils.alloca_once(builder, I64)
        with builder.if_else(builder.icmp_signed("!=", wide, I64(0))) as (long, short):
            for branch, kind in (long, I64), (short, I32):
                with branch:
                    base = builder.inttoptr(address, kind.as_pointer())
                    value = builder.load(builder.gep(base, [index]))
                    builder.store(value if kind is I64 else builder.sext(value, I64), result)
        return builder.load(result)

    integers = [types.int64] * 3
    return types.int64(*integers), build


@intrinsic
def as_float(context, bits):
    """The bits of an int64 read as a float64."""

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), build


# Loads and stores -------------------------------------------------------------------------------


def vector_pointer(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    """The address of `base[index]` as a pointer to vectors of type `kind`."""
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


def align(vector: Vector) -> int:
    """Bytes of one element: vectors are aligned as their elements, not as vectors."""
    return vector.dtype.bitwidth // 8


@intrinsic(prefer_literal=True)
def zeros(context, like, lanes):
    """A vector of `lanes` zeros of the element type of pointer `like`; `lanes` is a constant."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(like.dtype, lanes.literal_value)

    def build(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(like, lanes), build


@intrinsic
def lanes_of(context, vector):
    """The number of lanes of a vector, a constant."""

    def build(context, builder, signature, args):
        return I64(vector.lanes)

    return types.int64(vector), build


@intrinsic
def splat(context, x, like):
    """A vector of the type of `like` with `x` in every lane."""

    def build(context, builder, signature, args):
        x = context.cast(builder, args[0], signature.args[0], like.dtype)
        return splatted(builder, x, args[1].type)

    return like(x, like), build


def splatted(builder: Any, x: Any, kind: Any) -> Any:
    """LLVM code for a vector of type `kind` with `x` in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
    order = ir.Constant(ir.VectorType(I32, kind.count), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), order)


@intrinsic
def load(context, base, index, like):
    """The vector at `base[index]`."""

    def build(context, builder, signature, args):
        start = vector_pointer(builder, args[0], args[1], args[2].type)
        return builder.load(start, align=align(like))

    return like(base, index, like), build


@intrinsic
def store(context, base, index, vector):
    """Write a vector to `base[index]` and after."""

    def build(context, builder, signature, args):
        start = vector_pointer(builder, args[0], args[1], args[2].type)
        builder.store(args[2], start, align=align(vector))
        return context.get_dummy_value()

    return types.none(base, index, vector), build


def _mask_of_first(builder: Any, count: Any, lanes: int) -> Any:
    """A vector of booleans: true in the first `count` lanes."""
    kind = ir.VectorType(I64, lanes)
    lane = ir.Constant(kind, [I64(i) for i in range(lanes)])
    return builder.icmp_signed("<", lane, splatted(builder, count, kind))


def suffix(vector: Any) -> str:
    """LLVM's suffix of a vector type in names of intrinsics, such as v8f32."""
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


@intrinsic
def load_first(context, base, index, count, like):
    """The first `count` lanes of the vector at `base[index]`, then zeros; reads no further."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = vector_pointer(builder, args[0], args[1], kind)
        mask = _mask_of_first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [start.type, I32, mask.type, kind]),
            f"llvm.masked.load.{suffix(kind)}.p0",
        )
        return builder.call(function, [start, I32(align(like)), mask, ir.Constant(kind, None)])

    return like(base, index, types.int64, like), build


@intrinsic
def store_first(context, base, index, count, vector):
    """Write the first `count` lanes of a vector to `base[index]` and after."""

    def build(context, builder, signature, args):
        kind = args[3].type
        start = vector_pointer(builder, args[0], args[1], kind)
        mask = _mask_of_first(builder, args[2], kind.count)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, start.type, I32, mask.type]),
            f"llvm.masked.store.{suffix(kind)}.p0",
        )
        builder.call(function, [args[3], start, I32(align(vector)), mask])
        return context.get_dummy_value()

    return types.none(base, index, types.int64, vector), build
