"""Eigenvectors of a graph's normalised Laplacian, the graph counterpart of sines and cosines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh, splu

Floats = NDArray[np.float64]
_log = logging.getLogger("graphformer")
_MAX_DENSE = 128  # nodes; below it a dense solver is faster than ARPACK
_MAX_DENSE_FALLBACK = 5_000  # nodes; 200 MB a matrix
_SAME_EIGENVALUE = 1e-6


def laplacian_eigenvectors(edge_index: NDArray[np.int64], num_nodes: int, k: int) -> Floats:
    r"""Return the k smoothest non-trivial eigenvectors of the normalised Laplacian, [N, k].

    .. math::
        L = I - D^{-1/2} A D^{-1/2}

    where A has each edge in both directions, no self-loops and no duplicates. Each connected
    component has its own eigenvectors: in order of their eigenvalues, of length one, signed so that
    the largest entry (the first of equal ones) is positive. Repeated eigenvalues appear as often as
    they occur, with an arbitrary orthonormal basis of their eigenspace. A component of n nodes has
    n - 1 eigenvectors; missing columns are zero, as are the rows of isolated nodes.

    Args:
        edge_index: [2, E].
        num_nodes: N.
        k: number of eigenvectors.

    Raises:
        RuntimeError: when no sparse solver converges on a component of more than 5,000 nodes.

    Source: Belkin and Niyogi, 2003; Dwivedi et al., 2022, "Benchmarking graph neural networks".
    """
    adjacency = _undirected(edge_index, num_nodes)
    count, component = sparse.csgraph.connected_components(adjacency, directed=False)
    order = np.argsort(component, kind="stable")
    sizes = np.bincount(component, minlength=count)
    ends = np.cumsum(sizes)
    out = np.zeros((num_nodes, k))
    if count > 1:  # sort the nodes by component, so that each is a diagonal block
        adjacency = adjacency[order][:, order]
    for first, last in zip(ends - sizes, ends, strict=True):
        if last - first > 1:
            vectors = _component(adjacency[first:last, first:last], min(k, last - first - 1))
            out[order[first:last], : vectors.shape[1]] = vectors
    return out


def laplacian_residual(edge_index: NDArray[np.int64], vectors: Floats) -> Floats:
    r"""Return :math:`|L v - \lambda v|`, which is 0 for eigenvectors v of L, [N, k].

    The eigenvalue is the Rayleigh quotient of each connected component, so that a column may hold
    eigenvectors of several components.

    Args:
        edge_index: [2, E].
        vectors: v, one in each column.
    """
    adjacency = _undirected(edge_index, len(vectors))
    _, component = sparse.csgraph.connected_components(adjacency, directed=False)
    degree = adjacency.sum(1)
    root = np.divide(1.0, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0)
    smooth = root[:, None] * (adjacency @ (root[:, None] * vectors))
    members = sparse.csr_array((np.ones(len(vectors)), (component, np.arange(len(vectors)))))
    energy, norm = members @ (vectors * smooth), members @ vectors**2
    value = np.divide(energy, norm, out=np.zeros_like(energy), where=norm > 0)
    return np.abs(smooth - value[component] * vectors)


def _undirected(edge_index: NDArray[np.int64], num_nodes: int) -> sparse.csr_array:
    """Return A: each edge in both directions with weight 1, no self-loops and no duplicates."""
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    ones = np.ones(2 * len(source))
    both = np.concatenate([source, target]), np.concatenate([target, source])
    adjacency = sparse.csr_array((ones, both), shape=(num_nodes, num_nodes))
    adjacency.data[:] = 1.0  # the constructor sums duplicates
    return adjacency


def _component(adjacency: sparse.csr_array, k: int) -> Floats:
    """Return the k non-trivial eigenvectors of a connected graph, [n, k].

    L and S = D^-1/2 A D^-1/2 share their eigenvectors; the smallest eigenvalues of L are the
    largest of S, and the largest of all, 1, is the trivial one.
    """
    root = 1 / np.sqrt(adjacency.sum(1))
    if len(root) <= _MAX_DENSE or 2 * (k + 1) >= len(root):
        vectors = _solve_dense(root[:, None] * adjacency.toarray() * root, k)
    else:
        vectors = _solve_sparse(sparse.diags_array(root) @ adjacency @ sparse.diags_array(root), k)
    size = np.abs(vectors)
    # Entries that are equal up to rounding count as equal, so that the sign is reproducible.
    first = (size > (1 - 1e-6) * size.max(0)).argmax(0)
    return vectors * np.sign(vectors[first, np.arange(k)])


def _solve_dense(smooth: Floats, k: int) -> Floats:
    """Return the eigenvectors of S to its second to (k + 1)-th largest eigenvalue, [n, k]."""
    size = smooth.shape[0]
    return scipy.linalg.eigh(smooth, subset_by_index=(size - 1 - k, size - 2))[1][:, ::-1]


def _solve_sparse(smooth: sparse.csr_array, k: int) -> Floats:
    """Return the same by Lanczos, by shift-invert where that stalls, or by the dense solver.

    Lanczos needs matrix products only, but stalls where eigenvalues are close together, as on long
    paths. Shift-invert needs a sparse factorisation, which may fill up.
    """
    for solve in (_lanczos, _shift_invert):
        try:
            return solve(smooth, k)[:, 1:]
        except (ArpackError, RuntimeError, MemoryError) as error:  # a factor may be singular
            _log.debug("eigenvectors of %d nodes: %s", smooth.shape[0], error)
    if smooth.shape[0] > _MAX_DENSE_FALLBACK:
        raise RuntimeError(
            f"laplacian: got {k} eigenvectors of a component of {smooth.shape[0]:,} nodes, for "
            "which no solver converges, expected fewer; lower k, or choose another encoding such "
            "as 'random_walk'"
        )
    return _solve_dense(smooth.toarray(), k)


def _lanczos(smooth: sparse.csr_array, k: int) -> Floats:
    """Return the eigenvectors of the k + 1 largest eigenvalues of S, in descending order."""
    size = smooth.shape[0]
    ncv = min(size - 1, max(4 * k, 40))  # size of the Krylov space

    def solve(operator: Any, number: int, start: Floats) -> tuple[Floats, Floats]:
        return eigsh(operator, k=number, which="LA", ncv=ncv, maxiter=100, v0=start, tol=1e-8)

    values, vectors = solve(smooth, k + 1, _start(size, 0))
    return _complete(values, vectors, smooth.dot, solve)


def _shift_invert(smooth: sparse.csr_array, k: int) -> Floats:
    """Return the same from the largest eigenvalues of ((1 + 1e-6) I - S)^-1."""
    size = smooth.shape[0]
    shifted = sparse.eye_array(size, format="csc") * (1 + 1e-6) - smooth.tocsc()
    inverse = LinearOperator((size, size), matvec=splu(shifted).solve, dtype=np.float64)
    values, vectors = eigsh(
        shifted, k=k + 1, sigma=0.0, which="LM", OPinv=inverse, v0=_start(size, 0), tol=1e-8
    )

    def solve(operator: Any, number: int, start: Floats) -> tuple[Floats, Floats]:
        return eigsh(operator, k=number, which="LA", v0=start, tol=1e-8)

    return _complete(1 / values, vectors, inverse.matvec, solve)


def _complete(
    values: Floats,
    vectors: Floats,
    apply: Callable[[Floats], Floats],
    solve: Callable[[Any, int, Floats], tuple[Floats, Floats]],
) -> Floats:
    """Return the eigenvectors of the largest eigenvalues with all copies of repeated ones.

    A Krylov space of one start vector holds one eigenvector of each eigenvalue; other copies appear
    by rounding, if at all. Here the operator is deflated by what was found, B - c V V^T with a c
    that moves the found eigenvalues below all others. If its largest eigenvalue is above the
    smallest found one, it is a copy that was missed: it replaces that one, until none is missed.

    Args:
        values: the largest eigenvalues of B as found, [m].
        vectors: their eigenvectors, [n, m].
        apply: x -> B x.
        solve: `solve(operator, number, start)` gives the largest eigenvalues of an operator.

    Returns:
        [n, m], by descending eigenvalue.
    """
    size, number = vectors.shape
    for attempt in range(1, number + 1):
        order = np.argsort(-values)
        values, vectors = values[order], vectors[:, order]
        operator = LinearOperator((size, size), matvec=_deflated(apply, values, vectors))
        start = _start(size, attempt)
        value, vector = solve(operator, 1, start - vectors @ (vectors.T @ start))
        if value[0] <= values[-1] + _SAME_EIGENVALUE * abs(values[-1]):
            break
        values[-1] = value[0]
        others = vectors[:, :-1]
        added = vector[:, 0] - others @ (others.T @ vector[:, 0])
        vectors[:, -1] = added / np.linalg.norm(added)
    return vectors[:, np.argsort(-values)]


def _deflated(
    apply: Callable[[Floats], Floats], values: Floats, vectors: Floats
) -> Callable[[Floats], Floats]:
    """Return x -> B x - V (values + c) V^T x, whose eigenvalues along V are all -c."""
    shift = values + np.abs(values).max() + 1

    def deflated(x: Floats) -> Floats:
        x = x.reshape(-1)
        return apply(x) - vectors @ (shift * (vectors.T @ x))

    return deflated


def _start(size: int, seed: int) -> Floats:
    """Return a random start vector [n]: ARPACK's own differs from call to call."""
    return np.random.default_rng(seed).standard_normal(size)
