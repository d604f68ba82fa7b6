"""`report_attention`: which attention modules of a `transformers` model run ours."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import NamedTuple

from torch import nn

from graphformer.ops.common import notice

INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""Name in the source of modules that call a registered attention function."""
OWN_ATTENTION = ("softmax", "scaled_dot_product_attention")
"""Names in the source of modules that compute attention themselves."""


class AttentionReport(NamedTuple):
    """The attention modules of a model, by name."""

    served: tuple[str, ...]
    """Modules that call the attention registered under the name."""
    others: dict[str, str]
    """Modules that do not, with the reason."""


def report_attention(
    model: nn.Module, *, name: str = "graphformer", quiet: bool = False
) -> AttentionReport:
    """Return which attention modules of a `transformers` model call our attention.

    Some models of `transformers` compute attention in their own code, whatever their
    `attn_implementation` is; for these `transformers` only logs a warning. A summary is logged
    (logger "graphformer", level INFO), or written to standard error if that level is off.

    Args:
        model: of `transformers`, after `set_attn_implementation` or `from_pretrained`.
        name: under which the attention is registered.
        quiet: whether to write no summary.
    """
    served: list[str] = []
    others: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for path, module in model.named_modules():
        if "attention" not in type(module).__name__.lower():
            continue
        reason = _reason_against(module, name)
        if reason is None:
            served.append(path)
        elif reason:
            others[path] = reason
            kinds[f"{type(module).__name__}: {reason}"] += 1
    if not quiet:
        lines = [f"{len(served)} of {len(served) + len(others)} attention modules run {name!r}"]
        lines += [f"not run by it: {count} x {kind}" for kind, count in sorted(kinds.items())]
        notice("\n".join(lines))
    return AttentionReport(tuple(served), others)


def _reason_against(module: nn.Module, name: str) -> str | None:
    """Why a module does not call our attention; None if it does, empty if it has no attention."""
    source = inspect.getsource(type(module))
    if INTERFACE not in source:
        is_own = any(word in source for word in OWN_ATTENTION)
        return "it computes attention in its own code" if is_own else ""
    chosen = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return None if chosen == name else f"its attn_implementation is {chosen!r}"
