"""Eigenvectors of a graph's Laplacian: where its nodes are, as sines and cosines are on a path."""

from __future__ import annotations

import logging

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import ArpackError, eigsh

Floats = NDArray[np.float64]
_log = logging.getLogger("graphformer")
_MAX_DENSE, _MAX_DENSE_FALLBACK = 128, 5_000


def laplacian_eigenvectors(edge_index: NDArray[np.int64], num_nodes: int, k: int) -> Floats:
    """The k smoothest eigenvectors of the normalised Laplacian but the trivial one, [N, k].

    L = I - D^-1/2 A D^-1/2 of the graph with edges both ways, without self-loops and duplicates.
    Each connected component has its own, in the order of their eigenvalues, each of length one
    and with its largest entry, the first of such, positive. Where a component has fewer than k,
    zeros follow; so isolated nodes have zeros only.

    Args:
        edge_index: [2, E].
        num_nodes: N.
        k: how many.

    Raises RuntimeError where no solver converges on a component too large for a dense one.

    Source: Belkin and Niyogi, 2003; Dwivedi et al., 2022, "Benchmarking graph neural networks".
    """
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    ones = np.ones(2 * len(source))
    both = np.concatenate([source, target]), np.concatenate([target, source])
    adjacency = sparse.csr_array((ones, both), shape=(num_nodes, num_nodes))
    adjacency.data[:] = 1.0  # duplicates were added up
    count, component = sparse.csgraph.connected_components(adjacency, directed=False)
    order = np.argsort(component, kind="stable")
    sizes = np.bincount(component, minlength=count)
    ends = np.cumsum(sizes)
    out = np.zeros((num_nodes, k))
    if count > 1:  # component after component, so that each is a block
        adjacency = adjacency[order][:, order]
    for first, last in zip(ends - sizes, ends, strict=True):
        if last - first > 1:
            vectors = _component(adjacency[first:last, first:last], min(k, last - first - 1))
            out[order[first:last], : vectors.shape[1]] = vectors
    return out


def _component(adjacency: sparse.csr_array, k: int) -> Floats:
    """The k non-trivial eigenvectors of a connected graph, [n, k]."""
    root = 1 / np.sqrt(adjacency.sum(1))
    if len(root) <= _MAX_DENSE or 2 * (k + 1) >= len(root):
        vectors = _dense(root[:, None] * adjacency.toarray() * root, k)
    else:
        vectors = _sparse(sparse.diags_array(root) @ adjacency @ sparse.diags_array(root), k)
    size = np.abs(vectors)
    first = (size > (1 - 1e-6) * size.max(0)).argmax(0)  # of entries that differ by rounding alone
    return vectors * np.sign(vectors[first, np.arange(k)])


def _dense(smooth: Floats, k: int) -> Floats:
    size = smooth.shape[0]
    wanted = (size - 1 - k, size - 2)  # the largest of all is the trivial one
    return scipy.linalg.eigh(smooth, subset_by_index=wanted)[1][:, ::-1]


def _sparse(smooth: sparse.csr_array, k: int) -> Floats:
    """By Lanczos, or where that stalls, as on long paths, by shift and invert; dense at last."""
    size = smooth.shape[0]
    start = np.random.default_rng(0).standard_normal(size)  # so that a repeat gives the same
    shifted = sparse.eye_array(size, format="csc") * (1 + 1e-6) - smooth.tocsc()
    ways = [
        {"A": smooth, "which": "LA", "ncv": min(size - 1, max(4 * k, 40)), "maxiter": 100},
        {"A": shifted, "sigma": 0.0, "which": "LM"},
    ]
    for way in ways:
        try:
            values, vectors = eigsh(**way, k=k + 1, v0=start, tol=1e-8)
        except (ArpackError, RuntimeError, MemoryError) as error:  # a factor may be singular
            _log.debug("eigenvectors of %d nodes: %s", size, error)
            continue
        order = np.argsort(values if "sigma" in way else -values)
        return vectors[:, order[1:]]
    if size > _MAX_DENSE_FALLBACK:
        raise RuntimeError(
            f"no solver found {k} eigenvectors of a component of {size:,} nodes: take fewer, or "
            "another encoding such as 'random_walk'"
        )
    return _dense(smooth.toarray(), k)
