"""Training steps on shapes: what they allocate over time, and their FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.optim import Optimizer

from graphformer.batch_type import BatchLike
from graphformer.nn import Transformer
from graphformer.nn.block import ActivationCheckpointing
from graphformer.patterns import Pattern
from graphformer.patterns.fields import sample_layout
from graphformer.planning.edges import edge_counts, shape_only
from graphformer.planning.flops import Flops
from graphformer.planning.timeline import DeepTimeline, Timeline
from graphformer.planning.tracing import ShapeTrace, shape_trace
from graphformer.tasks import Task
from graphformer.tasks.labels import convert_floats

TRUE_PRECISIONS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
MIXED_PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
PRECISIONS = ("32-true", *MIXED_PRECISIONS, *TRUE_PRECISIONS)


_UNKNOWN_SHAPES = (DataDependentOutputException, DynamicOutputShapeException)


def parameter_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype that a precision converts parameters to; None if it does not."""
    return TRUE_PRECISIONS.get(precision)


@dataclass(frozen=True)
class StepTrace:
    """An optimiser step on shapes.

    Attributes:
        timeline: allocated bytes over time.
        flops: of the step.
        edges: of each adjacency of a batch.
        nodes: of a batch.
    """

    timeline: Timeline | DeepTimeline
    flops: Flops
    edges: list[int]
    nodes: int


def trace_step(
    task: Task,
    batch: BatchLike,
    fake: FakeTensorMode,
    *,
    precision: str = "32-true",
    accumulate: int = 1,
    heap_overhead: float = 0.0,
) -> StepTrace:
    """Run an optimiser step of a task on shapes.

    It is not the first one: there are the state of the optimiser and, as under Lightning, the
    gradients of the step before in the forward pass.

    Args:
        task: with fake parameters.
        batch: of the data, with or without values.
        fake: the mode of the parameters.
        precision: one of `PRECISIONS`.
        accumulate: number of batches of an optimiser step.
        heap_overhead: of the allocator, `HEAP_OVERHEAD` on a CPU.
    """
    if precision in TRUE_PRECISIONS:
        batch = convert_floats(batch, TRUE_PRECISIONS[precision])
    adjacency = _adjacency(task, batch, fake)
    run = partial(_trace, task, batch, adjacency, fake, precision, accumulates=accumulate > 1)
    edges, nodes = edge_counts(adjacency), int(batch.num_nodes or 0)
    stack = _equal_blocks(task.network, adjacency)
    if stack is None:
        trace = run()
        flops = trace.flops.times(accumulate)
        return StepTrace(trace.events.timeline(heap_overhead), flops, edges, nodes)
    depth, period = len(stack.blocks), _period(stack)
    rest = depth % period  # as in the whole stack, of whose last blocks some are recomputed
    depths = 4 * period + rest, 8 * period + rest
    with _truncated(stack, depths[0]):
        low = run()
    with _truncated(stack, depths[1]):
        high = run()

    def at_depth(first: float, second: float) -> float:
        return first + (second - first) * (depth - depths[0]) / (depths[1] - depths[0])

    flops = Flops(
        at_depth(low.flops.matmul, high.flops.matmul),
        at_depth(low.flops.attention, high.flops.attention),
    )
    shallow, deep = (each.events.timeline(heap_overhead) for each in (low, high))
    timeline = DeepTimeline(shallow, deep, depths, depth)
    return StepTrace(timeline, flops.times(accumulate), edges, nodes)


def _adjacency(task: Task, batch: BatchLike, fake: FakeTensorMode) -> Any:
    """Return the adjacency of a batch; edges without values are taken to be distinct."""
    if not isinstance(getattr(batch, "edge_index", None), FakeTensor):
        return task.adjacency(batch)
    with shape_trace(fake) as trace, trace.without_values():
        return task.adjacency(batch)


def _trace(
    task: Task,
    batch: BatchLike,
    adjacency: Any,
    fake: FakeTensorMode,
    precision: str,
    *,
    accumulates: bool,
) -> ShapeTrace:
    pattern = task.adjacency
    with _unlogged(task), convert_parameters(task, parameter_dtype(precision), fake):
        try:
            with shape_trace(fake) as trace:
                for tensor in (*task.parameters(), *task.buffers()):
                    trace.track(tensor, "parameters")
                arrays = shape_only(adjacency, trace)
                task.adjacency = _Given(arrays, batch, pattern, trace)  # type: ignore[assignment]
                _steps(task, batch, trace, precision, accumulates=accumulates)
        except _UNKNOWN_SHAPES as error:
            raise ValueError(
                f"model: got {type(task).__name__}, whose shapes depend on what the network "
                f"computes ({error}), expected shapes that depend on the batch only"
            ) from error
        finally:
            task.adjacency = pattern
            task._label_counts.clear()
            for parameter in task.parameters():
                parameter.grad = None
    return trace


class _Given:
    """A pattern that returns a given adjacency for a batch, and makes those of other batches."""

    def __init__(
        self, adjacency: Any, batch: BatchLike, pattern: Pattern, trace: ShapeTrace
    ) -> None:
        self.adjacency, self.batch, self.pattern, self.trace = adjacency, batch, pattern, trace

    def __call__(self, batch: BatchLike) -> Any:
        if batch is self.batch or sample_layout(batch)[0] == sample_layout(self.batch)[0]:
            return self.adjacency
        return shape_only(self.pattern(batch), self.trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pattern, name)


def _steps(
    task: Task, batch: BatchLike, trace: ShapeTrace, precision: str, *, accumulates: bool
) -> None:
    """Run a step in the order of Lightning, which clears gradients after the forward pass.

    The gradients and the state of the step before are made first.
    """
    task.train()
    with _in_torch(task):
        optimizer = task.make_optimizer()
    for parameter in task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
            trace.track(parameter.grad, "gradients")
    optimizer.step()
    _track_state(optimizer, trace)
    trace.begin_step()
    dtype = MIXED_PRECISIONS.get(precision)
    with nullcontext() if dtype is None else torch.autocast("cpu", dtype):
        loss: Any = task.training_step(batch, 0)
    loss = loss["loss"] if isinstance(loss, dict) else loss
    trace.mark_activations()
    if not accumulates:
        optimizer.zero_grad()
    trace.events.begin_phase()
    loss.backward()
    for parameter in task.parameters():
        if parameter.grad is not None:
            trace.track(parameter.grad, "gradients")
    task.on_before_optimizer_step(optimizer)
    trace.events.begin_phase()
    optimizer.step()


@contextmanager
def _in_torch(task: Task) -> Iterator[None]:
    """Let a task make torch's optimiser in place of one with less memory, whose share is known."""
    name = task.optimizer_name
    task.optimizer_name = "adam" if name == "adam" else "adamw"
    try:
        yield
    finally:
        task.optimizer_name = name


def _track_state(optimizer: Optimizer, trace: ShapeTrace) -> None:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                trace.track(value, "optimizer")


def _equal_blocks(network: nn.Module, adjacency: Any) -> Transformer | None:
    """Return the stack whose blocks are traced in part, because they are many and equal."""
    stacks = [each for each in network.modules() if isinstance(each, Transformer)]
    deep = [each for each in stacks if len(each.blocks) > 8 * _period(each)]
    if len(deep) != 1 or isinstance(adjacency, list | tuple):
        return None
    shapes = [[p.shape for p in block.parameters()] for block in deep[0].blocks]
    is_shared = not isinstance(deep[0].position_encoding, nn.ModuleList)
    equal = all(each == shapes[0] for each in shapes)
    trained = {p.requires_grad for p in deep[0].parameters()} == {True}
    is_whole = type(deep[0]) is Transformer  # jumping knowledge reads all blocks
    return deep[0] if equal and is_shared and trained and is_whole else None


def _period(stack: Transformer) -> int:
    every = stack.activation_checkpointing
    return 1 if every == "attention" else max(1, int(every))


@contextmanager
def _truncated(stack: Transformer, depth: int) -> Iterator[None]:
    """Keep the first blocks only, for a while."""
    blocks = stack.blocks
    stack.blocks = blocks[:depth]
    try:
        yield
    finally:
        stack.blocks = blocks


@contextmanager
def recomputing(network: nn.Module, value: ActivationCheckpointing | None) -> Iterator[None]:
    """Set `activation_checkpointing` of all Transformers in a network; None leaves them as is."""
    stacks = [each for each in network.modules() if isinstance(each, Transformer)]
    before = [each.activation_checkpointing for each in stacks]
    for stack in stacks:
        if value is not None:
            stack.activation_checkpointing = value
    try:
        yield
    finally:
        for stack, old in zip(stacks, before, strict=True):
            stack.activation_checkpointing = old


@contextmanager
def convert_parameters(
    module: nn.Module, dtype: torch.dtype | None, fake: FakeTensorMode
) -> Iterator[None]:
    """Replace floating-point parameters and buffers by fake ones of another dtype, for a while."""
    if dtype is None:
        yield
        return
    new: dict[Tensor, Tensor] = {}
    stores = [
        store
        for each in module.modules()
        for store in (each._parameters, each._buffers)
    ]  # fmt: skip
    before = [dict(store) for store in stores]
    for store in stores:
        for name, old in store.items():
            if old is not None and old.is_floating_point():
                if old not in new:
                    with fake:
                        made = torch.empty(old.shape, dtype=dtype)
                        is_parameter = isinstance(old, nn.Parameter)
                        new[old] = nn.Parameter(made, old.requires_grad) if is_parameter else made
                store[name] = new[old]  # type: ignore[assignment]
    try:
        yield
    finally:
        for store, old_values in zip(stores, before, strict=True):
            store.update(old_values)  # type: ignore[arg-type]


@contextmanager
def _unlogged(task: Task) -> Iterator[None]:
    """Replace the method that logs, which needs a running trainer."""
    task.__dict__["log"] = lambda *_, **__: None
    try:
        yield
    finally:
        del task.__dict__["log"]
