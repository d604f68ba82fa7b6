"""An adjacency of edges in any order, for programs in which nothing may be sorted."""

from __future__ import annotations

from torch import Tensor

from graphformer.adjacency import CSR


def edge_list(edge_index: Tensor, num_nodes: int) -> CSR:
    """Return an adjacency of distinct edges [2, E] whose slots have the order of the list.

    A CSR's slots are sorted by target, which its cached `target` and `indices` say too. The backend
    "scatter" reads these two alone, and needs no order; other backends must not be used.
    """
    csr = CSR(edge_index.new_zeros(0), edge_index[0], (num_nodes, num_nodes))
    vars(csr).update(target=edge_index[1], edge_index=edge_index)
    return csr
