"""Memory and FLOPs of a training step, from shapes alone."""

from graphformer.planning.batches import NoData, Sizes, make_batch
from graphformer.planning.remedies import Planner, Result, Setting, possible_changes
from graphformer.planning.sharding import STRATEGIES, Groups, Placement, parameter_groups
from graphformer.planning.sizes import format_bytes, format_flops, parse_bytes
from graphformer.planning.step import PRECISIONS, StepTrace, recomputing, trace_step
from graphformer.planning.timeline import HEAP_OVERHEAD

__all__ = [
    "HEAP_OVERHEAD",
    "PRECISIONS",
    "STRATEGIES",
    "Groups",
    "NoData",
    "Placement",
    "Planner",
    "Result",
    "Setting",
    "Sizes",
    "StepTrace",
    "format_bytes",
    "format_flops",
    "make_batch",
    "parameter_groups",
    "parse_bytes",
    "possible_changes",
    "recomputing",
    "trace_step",
]
