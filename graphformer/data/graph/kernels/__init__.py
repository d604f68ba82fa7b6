"""Numba kernels over graphs: sampling, breadth-first search, random walks."""
