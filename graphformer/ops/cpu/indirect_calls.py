"""Calls of compiled code by address, and the counter that hands out work."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphformer.ops.cpu.simd import I64


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
    """Call the compiled sweep at an address: see `graphformer.ops.cpu.block_steps`."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, x, i64, i64, edges, i64), build


@intrinsic
def list_block(context, address, table, begin, n, nodes):
    """Call the compiled `graphformer.ops.cpu.block_steps.list_edges` at an address."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, i64, i64, nodes), build
