"""Measures of the singular values of one matrix."""
