"""Calls of compiled functions by address, and the atomic counter of work items."""

# mypy: disable-error-code="misc,no-untyped-call,no-untyped-def"
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from graphformer.ops.cpu.kernels.simd import I64


@intrinsic
def take_next(context, counter):
    """Add one to the int64 at an address that threads share; return its previous value."""

    def build(context, builder, signature, args):
        address = builder.inttoptr(args[0], I64.as_pointer())
        return builder.atomic_rmw("add", address, I64(1), "monotonic")

    return types.int64(types.int64), build


def _call_by_address(builder, args):
    """Call the function at address args[0] with the other arguments."""
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
    builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@intrinsic
def call_kernel(context, address, item, table, scratch):
    """Call the kernel at an address: kernel(item, table, scratch)."""

    def build(context, builder, signature, args):
        _call_by_address(builder, args)
        return context.get_dummy_value()

    integers = [types.int64] * 4
    return types.none(*integers), build


@intrinsic
def call_step(context, address, table, x, stride, count, edges, base):
    """Call the optional step at an address: see `graphformer.ops.cpu.kernels.optional_steps`."""

    def build(context, builder, signature, args):
        _call_by_address(builder, args)
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, x, i64, i64, edges, i64), build


@intrinsic
def call_list_edges(context, address, table, begin, count, nodes):
    """Call the compiled `graphformer.ops.cpu.kernels.optional_steps.list_edges` at an address."""

    def build(context, builder, signature, args):
        _call_by_address(builder, args)
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(i64, table, i64, i64, nodes), build
