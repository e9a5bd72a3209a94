"""Kernels compiled on first use (numba); gradients come from kernels of their own or not at all."""
