"""Kernels: from the rows of a chunk of columns to its part of a Gram."""
