"""Kernels that numba compiles, and the vector instructions and tables that they share."""
