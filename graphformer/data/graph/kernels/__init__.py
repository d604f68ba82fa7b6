"""Numba kernels over graphs: sampling, traversal, Laplacian eigenvectors."""
