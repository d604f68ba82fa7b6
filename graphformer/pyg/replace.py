"""`accelerate`, which replaces the attention layers of a PyG model by the fused ones."""

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
    """Replace the attention layers of a PyG model by the fused ones, in place, and return it.

    All `GATConv`, `GATv2Conv` and `TransformerConv` of the model are replaced. Parameters,
    `state_dict`, outputs and gradients stay the same to float precision; dropout has the same
    probability but other random numbers. What is replaced, and what is not and why, is logged
    (logger "graphformer", level INFO), or written to standard error if that level is off. A second
    call changes nothing. The CSR form of an `edge_index` is computed at its first use and cached
    while that tensor exists.

    torch's dropout, which draws one number after the other on a CPU, can take more time than the
    rest of such a model (60 % of a step on Cora). During the forward pass in training,
    `torch.nn.functional.dropout`, and with it `nn.Dropout`, is therefore replaced by
    `graphformer.ops.dropout`.

    The fused layers run PyG's own forward on inputs that they do not support: sparse adjacency
    tensors, explanation mode, hooks on messages, TorchScript, export.

    Args:
        model: any module.
        dropout: whether to replace torch's dropout too.
        quiet: whether to write no summary.

    Raises:
        TypeError: when `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: got {type(model).__name__}, expected a torch.nn.Module; pass the PyG model"
        )
    replaced: list[str] = []
    fused_before: list[str] = []
    skipped: list[str] = []
    others: Counter[str] = Counter()
    for name, module in model.named_modules():
        if not isinstance(module, MessagePassing):
            continue
        label = f"{name or 'the model'} ({type(module).__name__})"
        reason = _unsupported_reason(module)
        if type(module) in FUSED.values():
            fused_before.append(label)
        elif not isinstance(module, tuple(FUSED)):
            others[type(module).__name__] += 1
        elif reason:
            skipped.append(f"{label}: {reason}")
        else:
            module.__class__ = FUSED[type(module)]
            replaced.append(label)
    faster = bool(replaced or fused_before) and dropout and add_fast_dropout(model)
    if not quiet:
        notice(_summary(type(model).__name__, replaced, fused_before, skipped, others, faster))
    return model


def _unsupported_reason(module: Any) -> str | None:
    """Why an attention layer cannot be replaced; None if it can."""
    if type(module) not in FUSED:
        return "a subclass, which may compute something else"
    own = [name for name in _OVERRIDES if name in vars(module)]
    if own:
        return f"it overrides {own[0]}"
    if module.flow != "source_to_target":
        return f"flow is {module.flow!r}"
    if module.aggr not in ("add", "sum"):
        return f"aggr is {module.aggr!r}"
    return None


def _summary(
    model: str,
    replaced: list[str],
    fused_before: list[str],
    skipped: list[str],
    others: Counter[str],
    faster_dropout: bool,
) -> str:
    """A line on what was replaced, and a line for each layer that was not."""
    found = len(replaced) + len(fused_before) + len(skipped)
    if not found:
        lines = [f"found no GATConv, GATv2Conv or TransformerConv in {model}: nothing to replace"]
    else:
        lines = [f"replaced {len(replaced)} of {found} attention layers in {model}"]
        lines[0] += f": {_shortened(replaced)}" if replaced else ""
    if fused_before:
        lines.append(f"fused before: {_shortened(fused_before)}")
    if faster_dropout:
        lines.append(f"dropout in {model} is fused on a CPU, with other random numbers")
    lines += [f"not replaced: {label}" for label in skipped]
    if others:
        classes = ", ".join(f"{name} x {count}" for name, count in sorted(others.items()))
        lines.append(f"not replaced, no attention layers of these classes: {classes}")
    return "\n".join(lines)


def _shortened(labels: list[str]) -> str:
    return ", ".join(labels if len(labels) <= 4 else [*labels[:2], "...", labels[-1]])
