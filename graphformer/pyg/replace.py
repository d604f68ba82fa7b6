"""`accelerate`: the fused attention inside an existing PyG model."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from torch import nn
from torch_geometric.nn import MessagePassing

from graphformer.ops.common import notice
from graphformer.pyg.dropout import add_fast_dropout
from graphformer.pyg.layers import FUSED

Model = TypeVar("Model", bound=nn.Module)
_OVERRIDES = ("forward", "message", "edge_update", "aggregate", "update", "propagate")


def accelerate(model: Model, *, dropout: bool = True, quiet: bool = False) -> Model:
    """Replace the attention inside a PyG model by the fused one, in place, and return the model.

    Parameters, `state_dict`, outputs and gradients stay the same to float precision; dropout drops
    as often as before, but other random numbers. `GATConv`, `GATv2Conv` and
    `TransformerConv` are replaced wherever they are in the model; what was replaced, and what was
    left and why, is logged (logger "graphformer", level INFO), and written to standard error if
    no such log is on and `quiet` is false. Applied again it changes nothing. The CSR form of an
    `edge_index` is made at its first use and kept as long as that tensor lives.

    torch's dropout, one number after the other on a CPU, often costs such a model more than all
    else (60 % of a step on Cora). While the model trains, `torch.nn.functional.dropout` within its
    forward pass, and with it `nn.Dropout`, is therefore `graphformer.ops.dropout`, unless `dropout`
    is false.

    Inputs that the fused layers don't cover go PyG's own way, with the same results: sparse
    adjacency tensors, explanation mode, hooks on messages, TorchScript, export.

    Raises TypeError unless `model` is a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    replaced: list[str] = []
    already: list[str] = []
    left: list[str] = []
    others: Counter[str] = Counter()
    for name, module in model.named_modules():
        if not isinstance(module, MessagePassing):
            continue
        label = f"{name or 'the model'} ({type(module).__name__})"
        reason = _why_not(module)
        if type(module) in FUSED.values():
            already.append(label)
        elif not isinstance(module, tuple(FUSED)):
            others[type(module).__name__] += 1
        elif reason:
            left.append(f"{label}: {reason}")
        else:
            module.__class__ = FUSED[type(module)]
            replaced.append(label)
    faster = bool(replaced or already) and dropout and add_fast_dropout(model)
    if not quiet:
        notice(_summary(type(model).__name__, replaced, already, left, others, faster))
    return model


def _why_not(module: Any) -> str | None:
    """Why an attention layer can't be replaced; None if it can."""
    if type(module) not in FUSED:
        return "a subclass, which may compute something else"
    own = [name for name in _OVERRIDES if name in vars(module)]
    if own:
        return f"its own {own[0]}"
    if module.flow != "source_to_target":
        return f"flow is {module.flow!r}"
    if module.aggr not in ("add", "sum"):
        return f"aggr is {module.aggr!r}"
    return None


def _summary(
    model: str,
    replaced: list[str],
    already: list[str],
    left: list[str],
    others: Counter[str],
    faster_dropout: bool,
) -> str:
    """One line that says what was done, and one for each thing that was not."""
    found = len(replaced) + len(already) + len(left)
    if not found:
        lines = [f"found no GATConv, GATv2Conv or TransformerConv in {model}: nothing to replace"]
    else:
        lines = [f"replaced {len(replaced)} of {found} attention layers in {model}"]
        lines[0] += f": {_shortened(replaced)}" if replaced else ""
    if already:
        lines.append(f"fused before: {_shortened(already)}")
    if faster_dropout:
        lines.append(f"dropout in {model} is the fused one on a CPU: other random numbers")
    lines += [f"left {label}" for label in left]
    if others:
        kinds = ", ".join(f"{kind} x {count}" for kind, count in sorted(others.items()))
        lines.append(f"left, not attention over edges as known here: {kinds}")
    return "\n".join(lines)


def _shortened(labels: list[str]) -> str:
    return ", ".join(labels if len(labels) <= 4 else [*labels[:2], "...", labels[-1]])
