"""Numba kernels and solvers over graphs: sampling, traversal, Laplacian eigenvectors."""
