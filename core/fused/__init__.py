"""Kernels compiled on first use (numba), for passes that no gradient runs through."""
