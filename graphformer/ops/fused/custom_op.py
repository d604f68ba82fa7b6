"""The fused attention of a backend as a custom operator of torch, with its backward.

A backend supplies a `Driver` that runs its kernels. Autograd, `torch.compile`, `torch.export` and
autocast handle the operators like any others. They are opaque to the compiler, because which
kernels run depends on the degrees.

Dispatch of a custom operator costs 100 microseconds and more, which is longer than the kernels take
on small graphs. Plain eager calls therefore run the driver directly, with the same derivatives from
a `torch.autograd.Function`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import Unpack

from graphformer.adjacency import Adjacency
from graphformer.ops.common import AttentionOptions, Result
from graphformer.ops.fused.double_backward import double_backward
from graphformer.ops.fused.operands import (
    DOT,
    Cotangents,
    Driver,
    EdgeGradients,
    Gradients,
    Inputs,
    Outputs,
    Settings,
)


def make_operator(
    backend: str,
    load: Callable[[], Driver],
    *,
    device_types: str | None = None,
    backward_reads_out: bool = True,
) -> Callable[..., Outputs]:
    """Register `graphformer::{backend}_attend` and its backward; return a function that calls it.

    In plain eager mode (`is_plain`) the function runs the driver without the operator. Its
    arguments are the fields of `Inputs`, those of `Settings`, and `return_weights`.

    Args:
        backend: its name.
        load: imports the driver, on the first call.
        device_types: where it runs; anywhere if None.
        backward_reads_out: whether the backward pass needs the output. If not, it is not saved, and
            users may change it in place.
    """
    schema = f"({_parameters(Inputs, Settings)}, bool return_weights) -> {_tensors(4)}"

    def run_forward(*arguments: Any) -> Outputs:
        x, settings, (return_weights,) = _fields(arguments, Inputs, Settings, None)
        out, z, lse, weights = load().forward(x, settings, return_weights)
        return out if out.dtype == x.v.dtype else out.to(x.v.dtype), z, lse, weights

    attend = torch.library.custom_op(
        f"graphformer::{backend}_attend",
        run_forward,
        mutates_args=(),
        device_types=device_types,
        schema=schema,
    )

    parameters = f"{_parameters(Cotangents, Inputs, Settings)}, bool[] edge_grads"
    schema = f"({parameters}) -> {_tensors(len(Gradients._fields))}"

    def run_backward(*arguments: Any) -> tuple[Tensor, ...]:
        cotangents, x, settings, (edge_grads,) = _fields(
            arguments, Cotangents, Inputs, Settings, None
        )
        grads = load().backward(x, settings, cotangents, EdgeGradients(*edge_grads))
        # Gradients have the order of the inputs; those of absent ones keep the kernels' dtype.
        pairs = zip(grads, x, strict=False)
        return tuple(g if y is None or g.dtype == y.dtype else g.to(y.dtype) for g, y in pairs)

    attend_backward = torch.library.custom_op(
        f"graphformer::{backend}_attend_backward",
        run_backward,
        mutates_args=(),
        device_types=device_types,
        schema=schema,
    )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        x, ctx.settings, _ = _fields(inputs, Inputs, Settings, None)
        out, _, lse, _ = output
        ctx.save_for_backward(out if backward_reads_out else None, lse, *x)
        ctx.mark_non_differentiable(lse)
        ctx.set_materialize_grads(False)

    def gradients(
        x: Inputs, settings: Settings, out: Tensor | None, lse: Tensor, needs: Sequence[bool],
        dout: Tensor | None, dz: Tensor | None, dweights: Tensor | None,
    ) -> list[Tensor | None]:  # fmt: skip
        needed = EdgeGradients(*needs[len(needs) - len(EdgeGradients._fields) :])
        if dout is None:
            dout = x.v.new_zeros(*x.q.shape[:2], x.v.shape[2])
        if x.u is None:
            dz = None
        elif dz is None:
            dz = torch.zeros_like(x.u, dtype=lse.dtype)
        cotangents = Cotangents(dout, dz, dweights, out, lse)
        # Only the operator has second derivatives.
        direct = not torch.is_grad_enabled() and is_plain([dout, *x])
        run = run_backward if direct else attend_backward
        grads = Gradients(*run(*cotangents, *x, *settings, list(needed)))
        if needed.edge_weight and x.edge_weight is not None and x.edge_weight.shape[1] == 1:
            grads = grads._replace(edge_weight=grads.edge_weight.sum(1, keepdim=True))
        return [g if need else None for g, need in zip(grads, needs, strict=True)]

    def backward(ctx: Any, dout: Any, dz: Any, _: Any, dweights: Any) -> tuple[Any, ...]:
        out, lse, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[: len(Gradients._fields)]
        x = Inputs(*tensors)
        grads = gradients(x, ctx.settings, out, lse, needs, dout, dz, dweights)
        return *grads, *(None,) * (len(ctx.needs_input_grad) - len(grads))

    def save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        cotangents, x, ctx.settings, _ = _fields(inputs, Cotangents, Inputs, Settings, None)
        ctx.save_for_backward(*cotangents, *x)
        ctx.set_materialize_grads(False)

    def backward_of_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        cotangents, x = _fields(ctx.saved_tensors, Cotangents, Inputs)
        found = double_backward(x, ctx.settings, cotangents, grads)
        second = [found.get(name) for name in (*Cotangents._fields, *Inputs._fields)]
        return *second, *(None,) * (len(ctx.needs_input_grad) - len(second))

    attend.register_fake(_fake)
    attend_backward.register_fake(_fake_backward)
    attend.register_autograd(backward, setup_context=setup_context)
    attend_backward.register_autograd(backward_of_backward, setup_context=save_backward)

    class Attend(torch.autograd.Function):
        """The operator in plain eager mode: the inputs that have gradients, after all others."""

        @staticmethod
        def forward(ctx: Any, others: tuple[Any, ...], *tensors: Any) -> Outputs:
            out, _, lse, _ = output = run_forward(*tensors, *others)
            ctx.others = others
            ctx.save_for_backward(out if backward_reads_out else None, lse, *tensors)
            ctx.mark_non_differentiable(lse)
            ctx.set_materialize_grads(False)
            return output

        @staticmethod
        def backward(ctx: Any, dout: Any, dz: Any, _: Any, dweights: Any) -> Any:
            out, lse, *tensors = ctx.saved_tensors
            x, settings, _ = _fields((*tensors, *ctx.others), Inputs, Settings, None)
            needs = ctx.needs_input_grad[1:]
            return None, *gradients(x, settings, out, lse, needs, dout, dz, dweights)

    def run(*arguments: Any) -> Outputs:
        if not is_plain(arguments[: len(Inputs._fields)]):
            return attend(*arguments)
        count = len(Gradients._fields)
        tensors = arguments[:count]
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
            return Attend.apply(arguments[count:], *tensors)
        return run_forward(*arguments)

    return run


_PLAIN_TYPES = frozenset({Tensor, Parameter, type(None)})


def is_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a call runs in plain eager mode, where nothing intercepts operators.

    These intercept them: `torch.compile`, `torch.export`, `torch.jit.trace`, `torch.func`,
    subclasses of tensors, and dispatch modes (fake tensors, FLOP counters, selective checkpoints).
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and _PLAIN_TYPES.issuperset(map(type, tensors))
    )


def call(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    adjacency: Adjacency,
    *,
    kind: int,
    vector: Tensor | None = None,
    u: Tensor | None = None,
    edge: Tensor | None = None,
    scale: float = 1.0,
    slope: float = 0.0,
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Call an operator on an adjacency; return out, the sum of edge features and the weights."""
    csr = adjacency.to_csr()
    bias, edge_weight = options["bias"], options["edge_weight"]
    inputs = (q, k, v, vector, u, edge, bias, edge_weight)
    needs_grad = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    # A CSR that was made while tracing cannot compute more; the backward pass then does.
    available = not torch.compiler.is_compiling() or "by_source" in csr.__dict__
    order: tuple[Tensor | None, ...] = (None, None, None)
    if needs_grad and available:
        order = tuple(csr.by_source)
    x = Inputs._make(
        (*inputs, csr.indptr, csr.indices, csr.edge_ids, *order, options["seed"], None)
    )
    settings = Settings(kind, scale, slope, options["dropout"])
    out, z, _, weights = attend(*x, *settings, options["return_weights"])
    return out, z, weights.to(v.dtype) if options["return_weights"] else None


def call_with_features(
    attend: Callable[..., Outputs],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge_attr: Tensor,
    key_map: Tensor,
    value_map: Tensor,
    adjacency: Adjacency,
    *,
    scale: float,
    **options: Unpack[AttentionOptions],
) -> Result:
    """Attention with keys k_j + K e_ij and values v_j + V e_ij.

    For edge_attr e [E, F] in edge order, key_map K [H, D, F] and value_map V [H, Dv, F]. The mapped
    features [E, H, D] are not computed: q.(k + K e) = q.k + (K^T q).e and
    sum a (v + V e) = sum a v + V sum a e.
    """
    u = torch.einsum("mhd,hde->mhe", q, key_map)
    out, z, weights = call(
        attend, q, k, v, adjacency, kind=DOT, u=u, edge=edge_attr, scale=scale, **options
    )
    return out + torch.einsum("mhe,hde->mhd", z, value_map.to(z.dtype)).to(out.dtype), weights


# Arguments of the operators ---------------------------------------------------------------------


def _parameters(*kinds: type) -> str:
    """The schema of an operator's parameters, which are the fields of these tuples."""
    types = {Tensor: "Tensor", Tensor | None: "Tensor?", int: "SymInt", float: "float"}
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    return ", ".join(f"{types[hint]} {name}" for name, hint in hints.items())


def _tensors(count: int) -> str:
    """The schema of a result of `count` tensors."""
    return f"({', '.join(['Tensor'] * count)})"


def _fields(arguments: tuple[Any, ...], *kinds: Any) -> list[Any]:
    """Arguments as the tuples whose fields they are, in order; None stands for the remaining."""
    parts: list[Any] = []
    start = 0
    for kind in kinds:
        if kind is None:
            parts.append(arguments[start:])
        else:
            end = start + len(kind._fields)
            parts.append(kind._make(arguments[start:end]))
            start = end
    return parts


# Shapes and dtypes of the results ---------------------------------------------------------------


def _fake(*arguments: Any) -> Outputs:
    x, _, (return_weights,) = _fields(arguments, Inputs, Settings, None)
    dtype = _kernel_dtype(x)
    targets, heads = x.q.shape[:2]
    return (
        x.v.new_empty(targets, heads, x.v.shape[2]),
        x.v.new_empty(targets, heads, 0 if x.u is None else x.u.shape[2], dtype=dtype),
        x.v.new_empty(targets, heads, dtype=dtype),
        x.v.new_empty(x.indices.shape[0] if return_weights else 0, heads, dtype=dtype),
    )


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    cotangents, x, _, (edge_grads,) = _fields(arguments, Cotangents, Inputs, Settings, None)
    needed = EdgeGradients(*edge_grads)
    (targets, heads), num_edges = x.q.shape[:2], x.indices.shape[0]
    per_edge = num_edges, heads
    shapes: dict[str, Sequence[int]] = {
        "q": x.q.shape,
        "k": x.k.shape,
        "v": x.v.shape,
        "vector": (0,) if x.vector is None else x.vector.shape,
        "u": (targets, heads, 0) if x.u is None else x.u.shape,
        "edge": x.edge.shape if needed.edge and x.edge is not None else (0,),
        "bias": per_edge if needed.bias else (0,),
        "edge_weight": per_edge if needed.edge_weight else (0,),
    }
    return tuple(
        x.v.new_empty(shapes[name], dtype=_dtype_of_gradient(x, name, cotangents.lse))
        for name in Gradients._fields
    )


def _kernel_dtype(x: Inputs) -> torch.dtype:
    """The dtype that kernels compute in: float64 if an input has it, else float32."""
    double = any(y is not None and y.dtype == torch.float64 for y in x)
    return torch.float64 if double else torch.float32


def _dtype_of_gradient(x: Inputs, name: str, lse: Tensor) -> torch.dtype:
    """The dtype of the input; of the log-sum-exp for an input that is None."""
    value: Tensor | None = getattr(x, name)
    return lse.dtype if value is None else value.dtype
