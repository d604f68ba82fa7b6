"""What no training could put right is said before it begins."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

_FLOATS = ("x", "edge_attr", "edge_weight", "y")


def check_finite(name: str, graph: Data) -> None:
    """Refuse features, edge values and targets that are NaN or infinite.

    Raises:
        ValueError: naming the data, the attribute and the first row that has one.
    """
    for attribute in _FLOATS:
        value = getattr(graph, attribute, None)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # A sum is NaN or infinite if a part is, and costs no second tensor; it may also overflow.
        if torch.isfinite(value.double().sum() if value.numel() < 1e6 else value.sum()):
            continue
        wrong = (~torch.isfinite(value)).reshape(len(value), -1).any(1).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"{name}: {attribute} has NaN or infinite values in {len(wrong)} of {len(value)} "
                f"rows, first in row {int(wrong[0])}: fill them in, or leave these rows out."
            )


def one_of(argument: str, value: str, names: list[str]) -> str:
    """The one of `names` that `value` is, in upper or lower case.

    Raises:
        ValueError: it is none of them.
    """
    found = [name for name in names if name.lower() == value.lower()]
    if not found:
        raise ValueError(f"{argument} is {value!r}: expected one of {', '.join(names)}.")
    return found[0]
