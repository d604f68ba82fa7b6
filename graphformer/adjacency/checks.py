"""Checks of node numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def check_range(name: str, nodes: Tensor, size: int) -> None:
    """Refuse node numbers out of range.

    Raises:
        IndexError: when one is below 0 or at least `size`.
    """
    if torch.compiler.is_compiling():  # an assertion in the graph, which needs no break of it
        in_range = ((nodes >= 0) & (nodes < size)).all()
        torch._assert_async(in_range, f"edge_index: expected {name}s from 0 to num_nodes - 1")
        return
    if nodes.is_meta or not nodes.numel():
        return
    lowest, highest = int(nodes.min()), int(nodes.max())
    if lowest < 0 or highest >= size:
        raise IndexError(
            f"edge_index: got {name} {highest if highest >= size else lowest}, expected {name}s "
            f"from 0 to {size - 1}; pass the right num_nodes"
        )
